use super::*;

const NOW: u64 = 1_700_000_000_000;

thread_local! {
    /// Comparisons of secrets by this thread.
    pub static COMPARED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn compared(work: impl FnOnce()) -> usize {
    let before = COMPARED.get();
    work();
    COMPARED.get() - before
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::write(path, bytes)
}

fn accounts(name: &str) -> (PathBuf, Accounts) {
    let file = std::env::temp_dir().join(format!("evenkeel-accounts-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let accounts = Accounts::open(&file, 3_600_000, write).unwrap();
    (file, accounts)
}

fn socket() -> Who {
    Who { name: "root".into(), role: Role::Admin, from: "socket".into(), by: By::Socket }
}

fn login(name: &str, password: &str) -> api::Login {
    api::Login { name: name.into(), password: password.into(), code: None }
}

fn add(accounts: &Accounts, name: &str, role: Role) {
    let new = api::NewUser { name: name.into(), role, password: "correct horse".into() };
    accounts.add_user(&new, &socket(), NOW).unwrap();
}

fn kind<T>(result: Result<T, Refused>) -> FailureKind {
    result.map(|_| ()).unwrap_err().kind
}

#[test]
fn the_first_person_needs_the_code_of_the_start() {
    let (file, accounts) = accounts("first");
    assert!(accounts.door().first);
    let code = accounts.first_code().unwrap();
    let set_up =
        |code: &str| api::SetUp { code: code.into(), name: "ann".into(), password: "correct horse".into() };
    assert_eq!(kind(accounts.set_up(&set_up("12345-12345-12345-12345"), NOW)), FailureKind::Unknown);
    accounts.set_up(&set_up(&code), NOW).unwrap();
    assert_eq!(kind(accounts.set_up(&set_up(&code), NOW)), FailureKind::Unknown, "once");
    assert!(!accounts.door().first && accounts.first_code().is_none());
    let _ = std::fs::remove_file(file);
}

#[test]
fn sessions_end_and_survive_a_restart() {
    let (file, accounts) = accounts("sessions");
    add(&accounts, "ann", Role::Admin);
    let (secret, who) = accounts.log_in(&login("ann", "correct horse"), "192.0.2.1", "x", NOW).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains(&secret) && !text.contains("correct horse") && text.contains("$argon2id$"));
    let again = Accounts::open(&file, 3_600_000, write).unwrap();
    assert_eq!(again.of_session(&secret, "192.0.2.1", NOW + 1).unwrap(), who);
    assert_eq!(again.of_session("guessed", "192.0.2.1", NOW), None);
    assert_eq!(again.of_session(&secret, "192.0.2.1", NOW + 3_600_001), None, "idle");
    let By::Session { id, .. } = &who.by else { panic!() };
    again.log_out(id).unwrap();
    assert_eq!(again.of_session(&secret, "192.0.2.1", NOW), None);
    // A new password ends what the old one has begun.
    let (secret, _) = again.log_in(&login("ann", "correct horse"), "192.0.2.1", "x", NOW).unwrap();
    let change = api::UserChange { password: Some("battery staple".into()), ..Default::default() };
    again.change_user("ann", &change, &socket(), NOW).unwrap();
    assert_eq!(again.of_session(&secret, "192.0.2.1", NOW), None);
    let _ = std::fs::remove_file(file);
}

#[test]
fn guessing_is_counted_and_shut_out() {
    let (file, accounts) = accounts("guess");
    add(&accounts, "ann", Role::Admin);
    for _ in 0..5 {
        assert_eq!(
            kind(accounts.log_in(&login("ann", "wrong wrong"), "192.0.2.1", "", NOW)),
            FailureKind::Unknown
        );
    }
    let right = login("ann", "correct horse");
    assert_eq!(
        kind(accounts.log_in(&right, "192.0.2.1", "", NOW)),
        FailureKind::Locked,
        "by name and address"
    );
    assert_eq!(
        kind(accounts.log_in(&login("bob", "x"), "192.0.2.1", "", NOW)),
        FailureKind::Locked,
        "by address"
    );
    assert!(accounts.users(NOW)[0].locked_ms > 0 && accounts.failures() == 5);
    accounts.log_in(&right, "192.0.2.9", "", NOW).unwrap();
    accounts.log_in(&right, "192.0.2.1", "", NOW + 31_000).unwrap();
    assert_eq!(accounts.users(NOW)[0].locked_ms, 0);
    let _ = std::fs::remove_file(file);
}

#[test]
fn tokens_expire_and_the_last_admin_stays() {
    let (file, accounts) = accounts("tokens");
    add(&accounts, "ann", Role::Admin);
    add(&accounts, "bob", Role::Viewer);
    let who = Who { name: "ann".into(), role: Role::Admin, from: String::new(), by: By::Socket };
    let new = api::NewToken { name: "ci".into(), role: Role::Operator, valid_days: Some(1) };
    let token = accounts.add_token(&new, &who, NOW).unwrap();
    let secret = token.token.unwrap();
    assert_eq!(accounts.of_token(&secret, "", NOW).unwrap().role, Role::Operator);
    assert_eq!(accounts.of_token(&secret, "", NOW + DAY_MS), None);
    let new = api::NewToken { name: "for-ever".into(), role: Role::Viewer, valid_days: None };
    let endless = accounts.add_token(&new, &who, NOW).unwrap().token.unwrap();
    assert_eq!(accounts.revoke_endless_tokens().unwrap(), ["for-ever"]);
    assert_eq!(accounts.of_token(&endless, "", NOW), None);
    assert_eq!(kind(accounts.remove_user("ann", &socket(), NOW)), FailureKind::Failed);
    let demote = api::UserChange { role: Some(Role::Viewer), ..Default::default() };
    assert_eq!(kind(accounts.change_user("ann", &demote, &socket(), NOW)), FailureKind::Failed);
    accounts.remove_user("bob", &socket(), NOW).unwrap();
    assert_eq!(kind(accounts.remove_user("bob", &socket(), NOW)), FailureKind::NotFound);
    for name in ["a b;$(id)", ".", "..", ".ann", "-ann", "", "a/b"] {
        let odd = api::NewUser { name: name.into(), role: Role::Viewer, password: "correct horse".into() };
        assert_eq!(kind(accounts.add_user(&odd, &socket(), NOW)), FailureKind::Invalid, "{name:?}");
    }
    let _ = std::fs::remove_file(file);
}

/// A token does what its person may, and ends with the person and with the token that made it.
#[test]
fn tokens_end_with_their_person_and_their_maker() {
    let (file, accounts) = accounts("owners");
    add(&accounts, "ann", Role::Admin);
    add(&accounts, "bob", Role::Admin);
    let bob = Who { name: "bob".into(), role: Role::Admin, from: String::new(), by: By::Socket };
    let make = |who: &Who, days| {
        let new = api::NewToken { name: "one".into(), role: Role::Admin, valid_days: days };
        accounts.add_token(&new, who, NOW).unwrap()
    };
    let one = make(&bob, Some(1)).token.unwrap();
    let with_one = accounts.of_token(&one, "", NOW).unwrap();
    let two = make(&with_one, None);
    assert_eq!((two.expires_ms, two.owner.as_str()), (Some(NOW + DAY_MS), "bob"));
    let with_two = accounts.of_token(two.token.as_ref().unwrap(), "", NOW).unwrap();
    let three = make(&with_two, Some(30)).token.unwrap();
    // Another role takes effect at once, for what streams too.
    let demote = api::UserChange { role: Some(Role::Operator), ..Default::default() };
    accounts.change_user("bob", &demote, &socket(), NOW).unwrap();
    assert_eq!(accounts.of_token(&three, "", NOW).unwrap().role, Role::Operator);
    assert!(!accounts.still(&with_two, NOW));
    let demoted = accounts.of_token(&three, "", NOW).unwrap();
    let more = api::NewToken { name: "x".into(), role: Role::Admin, valid_days: None };
    assert_eq!(kind(accounts.add_token(&more, &demoted, NOW)), FailureKind::Forbidden);
    // Revoking one revokes what was made with it.
    accounts.remove_token(&two.id, &socket(), NOW).unwrap();
    assert!(accounts.of_token(&three, "", NOW).is_none() && accounts.of_token(&one, "", NOW).is_some());
    let promote = api::UserChange { role: Some(Role::Admin), ..Default::default() };
    accounts.change_user("bob", &promote, &socket(), NOW).unwrap();
    let four = make(&accounts.of_token(&one, "", NOW).unwrap(), None).token.unwrap();
    accounts.remove_user("bob", &socket(), NOW).unwrap();
    assert!(accounts.of_token(&one, "", NOW).is_none() && accounts.of_token(&four, "", NOW).is_none());
    assert_eq!(lesser(Role::Operator, Role::CertificateManager), Role::Viewer);
    let _ = std::fs::remove_file(file);
}

/// A session alone replaces no second factor.
#[test]
fn a_second_factor_is_replaced_with_password_and_code() {
    let (file, accounts) = accounts("factor");
    add(&accounts, "ann", Role::Admin);
    let (_, who) = accounts.log_in(&login("ann", "correct horse"), "192.0.2.1", "", NOW).unwrap();
    let code = |secret: &str, at: u64| {
        let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
        totp_rs::Builder::new().with_secret(secret).build().unwrap().generate(at / 1000)
    };
    let none = api::Proof::default();
    let first = accounts.begin_second_factor(&who, "lb", &none, NOW).unwrap().secret;
    accounts.finish_second_factor(&who, &code(&first, NOW).to_string(), NOW).unwrap();
    assert_eq!(kind(accounts.begin_second_factor(&who, "lb", &none, NOW)), FailureKind::Forbidden);
    let later = NOW + 60_000;
    let proof =
        |password: &str, code: &str| api::Proof { password: Some(password.into()), code: Some(code.into()) };
    let good = code(&first, later).to_string();
    assert!(accounts.begin_second_factor(&who, "lb", &proof("wrong wrong", &good), later).is_err());
    assert!(accounts.begin_second_factor(&who, "lb", &proof("correct horse", "000000"), later).is_err());
    accounts.begin_second_factor(&who, "lb", &proof("correct horse", &good), later).unwrap();
    assert!(accounts.begin_second_factor(&who, "lb", &proof("correct horse", &good), later).is_err(), "once");
    let _ = std::fs::remove_file(file);
}

fn code(secret: &str, at: u64) -> String {
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    totp_rs::Builder::new().with_secret(secret).build().unwrap().generate(at / 1000).to_string()
}

type Act<'a> = &'a dyn Fn() -> Result<(), Refused>;

/// Passwords are hashed in turn: whoever waits for that may have lost what they had when they asked.
#[test]
fn who_is_removed_while_they_wait_changes_nothing() {
    let (file, accounts) = accounts("late");
    for name in ["ann", "bob"] {
        add(&accounts, name, Role::Admin);
    }
    let (_, who) = accounts.log_in(&login("bob", "correct horse"), "192.0.2.1", "", NOW).unwrap();
    let token = api::NewToken { name: "t".into(), role: Role::Admin, valid_days: None };
    let made = accounts.add_token(&token, &who, NOW).unwrap();
    let by_token = accounts.of_token(made.token.as_deref().unwrap(), "192.0.2.1", NOW).unwrap();
    accounts.remove_user("bob", &socket(), NOW).unwrap();
    let new = api::NewUser { name: "eve".into(), role: Role::Admin, password: "correct horse".into() };
    let change = api::UserChange { password: Some("another horse".into()), ..api::UserChange::default() };
    for by in [&who, &by_token] {
        let late: [(&str, Act<'_>); 5] = [
            ("a user", &|| accounts.add_user(&new, by, NOW)),
            ("a password", &|| accounts.change_user("ann", &change, by, NOW)),
            ("a removal", &|| accounts.remove_user("ann", by, NOW)),
            ("a token", &|| accounts.add_token(&token, by, NOW).map(drop)),
            ("a revocation", &|| accounts.remove_token("x", by, NOW)),
        ];
        for (what, act) in late {
            assert_eq!(kind(act()), FailureKind::Unknown, "{what}");
        }
    }
    assert_eq!((accounts.users(NOW).len(), accounts.tokens().len()), (1, 0));
    let _ = std::fs::remove_file(file);
}

/// A second factor that was begun while there was none replaces none that has come meanwhile from the other node;
/// and a code that was taken stays taken.
#[test]
fn second_factors_of_the_other_node_are_no_way_around() {
    let ((file, one), (other_file, other)) = (accounts("factors-1"), accounts("factors-2"));
    add(&one, "ann", Role::Admin);
    assert!(other.adopt(&one.shared().1).unwrap().is_some());
    let (_, thief) = one.log_in(&login("ann", "correct horse"), "192.0.2.9", "", NOW).unwrap();
    let stolen = one.begin_second_factor(&thief, "lb", &api::Proof::default(), NOW).unwrap().secret;
    let (_, ann) = other.log_in(&login("ann", "correct horse"), "192.0.2.1", "", NOW).unwrap();
    let own = other.begin_second_factor(&ann, "lb", &api::Proof::default(), NOW).unwrap().secret;
    other.finish_second_factor(&ann, &code(&own, NOW), NOW).unwrap();
    assert!(one.adopt(&other.shared().1).unwrap().is_some());
    assert_eq!(kind(one.finish_second_factor(&thief, &code(&stolen, NOW), NOW)), FailureKind::NotFound);
    let later = NOW + 60_000;
    let with_code = api::Login { code: Some(code(&own, later)), ..login("ann", "correct horse") };
    one.log_in(&with_code, "192.0.2.1", "", later).unwrap();
    let backup = other.shared().1;
    add(&other, "bob", Role::Viewer);
    assert!(one.adopt(&other.shared().1).unwrap().is_some());
    assert_eq!(kind(one.log_in(&with_code, "192.0.2.1", "", later)), FailureKind::SecondFactor, "once");
    one.restore(&backup).unwrap();
    assert_eq!(kind(one.log_in(&with_code, "192.0.2.1", "", later)), FailureKind::SecondFactor, "once");
    for file in [file, other_file] {
        let _ = std::fs::remove_file(file);
    }
}

#[test]
fn a_damaged_file_opens_no_door() {
    let (file, _) = accounts("damaged");
    std::fs::write(&file, "{\"users\": [").unwrap();
    assert!(Accounts::open(&file, 1, write).is_err());
    let _ = std::fs::remove_file(file);
}

#[test]
fn the_other_node_has_the_same_people() {
    let ((file, one), (other_file, other)) = (accounts("pair-1"), accounts("pair-2"));
    add(&one, "ann", Role::Admin);
    let (secret, _) = one.log_in(&login("ann", "correct horse"), "192.0.2.1", "x", NOW).unwrap();
    assert!(other.adopt(&one.shared().1).unwrap().is_some());
    assert_eq!(other.adopt(&one.shared().1).unwrap(), None);
    other.log_in(&login("ann", "correct horse"), "192.0.2.1", "x", NOW).unwrap();
    assert_eq!(other.of_session(&secret, "192.0.2.1", NOW), None, "sessions are of one node");
    add(&other, "bob", Role::Viewer);
    assert!(one.adopt(&other.shared().1).unwrap().is_some());
    assert!(one.users(NOW).len() == 2 && one.of_session(&secret, "192.0.2.1", NOW).is_some());
    let change = api::UserChange { password: Some("battery staple".into()), ..Default::default() };
    other.change_user("ann", &change, &socket(), NOW).unwrap();
    assert!(one.adopt(&other.shared().1).unwrap().is_some());
    assert_eq!(one.of_session(&secret, "192.0.2.1", NOW), None, "its password is another");
    assert!(one.adopt("{").is_err());
    // Each changed as often while they were apart: one of both wins, the same one on both nodes, and says what is lost.
    add(&one, "cem", Role::Viewer);
    add(&other, "dot", Role::Viewer);
    let texts = [one.shared().1, other.shared().1];
    let changes = [one.adopt(&texts[1]).unwrap(), other.adopt(&texts[0]).unwrap()];
    let told: Vec<String> = changes.into_iter().flatten().collect();
    assert!(told.len() == 1 && told[0].contains("gone: ") && told[0].contains("new: "), "{told:?}");
    assert_eq!(one.shared().1, other.shared().1);
    assert_eq!([one.adopt(&texts[0]).unwrap(), other.adopt(&texts[1]).unwrap()], [None, None]);
    // Who joins gives way, however often it changed its people; to one that never had any it brings them.
    for name in ["eve", "fay", "gil"] {
        add(&other, name, Role::Viewer);
    }
    other.give_way().unwrap();
    assert!(
        one.adopt(&other.shared().1).unwrap().is_none() && other.adopt(&one.shared().1).unwrap().is_some()
    );
    let (empty_file, empty) = accounts("pair-3");
    other.give_way().unwrap();
    assert!(
        other.adopt(&empty.shared().1).unwrap().is_none()
            && empty.adopt(&other.shared().1).unwrap().is_some()
    );
    for file in [file, other_file, empty_file] {
        let _ = std::fs::remove_file(file);
    }
}

/// Work is counted, not time: who guesses learns nothing from how long an answer takes.
#[test]
fn wrong_names_passwords_and_tokens_cost_the_same() {
    let (file, accounts) = accounts("work");
    add(&accounts, "ann", Role::Admin);
    add(&accounts, "bob", Role::Viewer);
    let secret = {
        let mut inner = accounts.inner();
        let (secret, _) = second_factor::make("bob", "lb").unwrap();
        inner.user("bob").unwrap().second_factor = Some(secret.clone());
        secret
    };
    let long = "x".repeat(5000);
    let work = |name: &str, password: &str, code: Option<&str>| {
        let before = password::SPENT.get();
        let login =
            api::Login { name: name.into(), password: password.into(), code: code.map(str::to_owned) };
        // Each from a place of its own, so that no lock decides.
        let from = format!("192.0.2.{}", before % 251);
        assert_eq!(kind(accounts.log_in(&login, &from, "", NOW)), FailureKind::Unknown, "{name}");
        password::SPENT.get() - before
    };
    let usual = work("ann", "wrong wrong", None);
    assert!(usual > 10_000, "{usual} KiB");
    for (name, password, code) in [
        ("nobody", "wrong wrong", None),
        ("", "", None),
        ("ann", "", None),
        ("ann", long.as_str(), None),
        ("nobody", long.as_str(), None),
        ("bob", "wrong wrong", None),
        ("bob", "wrong wrong", Some("123456")),
        ("nobody", "wrong wrong", Some("123456")),
    ] {
        assert_eq!(work(name, password, code), usual, "{name:?} {code:?}");
    }
    drop(secret);
    // Tokens and sessions: every one is compared, however much of one is right.
    let mut tokens = Vec::new();
    let maker = Who { name: "ann".into(), role: Role::Admin, from: "socket".into(), by: By::Socket };
    for name in ["a", "b", "c"] {
        let new = api::NewToken { name: name.into(), role: Role::Viewer, valid_days: None };
        tokens.push(accounts.add_token(&new, &maker, NOW).unwrap().token.unwrap());
    }
    let (session, _) = accounts.log_in(&login("ann", "correct horse"), "198.51.100.1", "", NOW).unwrap();
    let almost = |right: &str| format!("{}{}", &right[..right.len() - 1], "!");
    for wrong in ["", "ek_", "ek_0", &almost(&tokens[0]), &almost(&tokens[2]), &long] {
        let count = compared(|| assert_eq!(accounts.of_token(wrong, "", NOW), None));
        assert_eq!(count, tokens.len(), "{wrong}");
    }
    for wrong in ["", &almost(&session), &long] {
        assert_eq!(compared(|| assert_eq!(accounts.of_session(wrong, "", NOW), None)), 1);
    }
    let _ = std::fs::remove_file(file);
}

/// A disk that is full or read-only: who comes in comes in, what is added or changed is not, and who is
/// locked out stays out.
#[test]
fn what_cannot_be_written_is_not_half_done() {
    thread_local! {
        static FULL: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
    fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        match FULL.get() {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => std::fs::write(path, bytes),
        }
    }
    let file = std::env::temp_dir().join(format!("evenkeel-accounts-full-{}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let accounts = Accounts::open(&file, 3_600_000, write).unwrap();
    add(&accounts, "ann", Role::Admin);
    add(&accounts, "bob", Role::Viewer);
    let root = socket();
    let ann = Who { name: "ann".into(), ..root.clone() };
    let token = |name: &str| api::NewToken { name: name.into(), role: Role::Viewer, valid_days: None };
    let kept = accounts.add_token(&token("kept"), &root, NOW).unwrap();
    let backup = std::fs::read_to_string(&file).unwrap();
    let stored = || serde_json::to_value(&accounts.inner().stored).unwrap();
    FULL.set(true);
    let before = stored();
    let role = |role| api::UserChange { role: Some(role), ..Default::default() };
    let asks_too_much = api::UserChange { second_factor: Some(true), ..role(Role::Operator) };
    let password = api::PasswordChange { old: "correct horse".into(), new: "battery staple".into() };
    let new = api::NewUser { name: "cec".into(), role: Role::Viewer, password: "correct horse".into() };
    let later = backup.replace("\"stamp\": 3", "\"stamp\": 99").replace("bob", "rob");
    type Work<'a> = &'a dyn Fn() -> Result<(), Refused>;
    let changes: [(&str, Work<'_>); 7] = [
        ("a user", &|| accounts.add_user(&new, &socket(), NOW)),
        ("a role", &|| accounts.change_user("bob", &role(Role::Admin), &socket(), NOW)),
        ("a role and what is refused", &|| accounts.change_user("bob", &asks_too_much, &socket(), NOW)),
        ("a password", &|| accounts.change_password(&ann, &password, NOW)),
        ("a token", &|| accounts.add_token(&token("new"), &root, NOW).map(drop)),
        ("the other node's people", &|| accounts.adopt(&later).map(drop)),
        ("a backup", &|| accounts.restore(&backup).map(drop)),
    ];
    for (what, work) in changes {
        assert!(work().is_err(), "{what}");
        assert_eq!(stored(), before, "{what}");
    }
    let (session, _) = accounts.log_in(&login("ann", "correct horse"), "192.0.2.1", "", NOW).unwrap();
    assert!(accounts.of_session(&session, "192.0.2.1", NOW).is_some(), "who mends the disk comes in");
    let told = accounts.remove_token(&kept.id, &socket(), NOW).unwrap_err().failure.detail;
    assert!(told.contains("until this program starts anew"), "{told}");
    assert!(accounts.of_token(&kept.token.unwrap(), "", NOW).is_none(), "what is revoked is revoked");
    accounts.remove_user("bob", &socket(), NOW).unwrap_err();
    assert!(!accounts.users(NOW).iter().any(|user| user.name == "bob"));
    FULL.set(false);
    accounts.log_out("none").unwrap_err();
    accounts.add_user(&new, &socket(), NOW).unwrap();
    assert!(!std::fs::read_to_string(&file).unwrap().contains("bob"), "the next change writes all");
    let _ = std::fs::remove_file(file);
}

#[test]
fn people_of_a_backup_are_looked_at() {
    let (file, accounts) = accounts("backup");
    add(&accounts, "ann", Role::Admin);
    let backup = std::fs::read_to_string(&file).unwrap();
    assert!(Accounts::check(&backup).is_ok());
    // A node that nobody has logged in to, whose tokens were made at the socket.
    let (scripted, alone) = self::accounts("backup-of-nobody");
    let token = evenkeel_api::NewToken { name: "deploy".into(), role: Role::Operator, valid_days: None };
    alone.add_token(&token, &socket(), NOW).unwrap();
    let of_nobody = std::fs::read_to_string(&scripted).unwrap();
    assert_eq!(accounts.restore(&of_nobody).unwrap(), 0);
    let _ = std::fs::remove_file(scripted);
    for (from, to) in
        [("\"ann\"", "\"..\""), ("m=19456", "m=4194304"), ("\"admin\"", "\"viewer\""), ("argon2id", "md5")]
    {
        assert!(backup.contains(from), "{backup}");
        assert_eq!(kind(Accounts::check(&backup.replace(from, to))), FailureKind::Invalid, "{to}");
    }
    let _ = std::fs::remove_file(file);
}
