use super::*;

const NOW: u64 = 1_700_000_000_000;

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::write(path, bytes)
}

fn accounts(name: &str) -> (PathBuf, Accounts) {
    let file = std::env::temp_dir().join(format!("evenkeel-accounts-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let accounts = Accounts::open(&file, 3_600_000, write).unwrap();
    (file, accounts)
}

fn login(name: &str, password: &str) -> api::Login {
    api::Login { name: name.into(), password: password.into(), code: None }
}

fn add(accounts: &Accounts, name: &str, role: Role) {
    let new = api::NewUser { name: name.into(), role, password: "correct horse".into() };
    accounts.add_user(&new, NOW).unwrap();
}

fn kind<T>(result: Result<T, Refused>) -> Kind {
    result.map(|_| ()).unwrap_err().kind
}

#[test]
fn the_first_person_needs_the_code_of_the_start() {
    let (file, accounts) = accounts("first");
    assert!(accounts.door().first);
    let code = accounts.first_code().unwrap();
    let set_up =
        |code: &str| api::SetUp { code: code.into(), name: "ann".into(), password: "correct horse".into() };
    assert_eq!(kind(accounts.set_up(&set_up("12345-12345-12345-12345"), NOW)), Kind::Unknown);
    accounts.set_up(&set_up(&code), NOW).unwrap();
    assert_eq!(kind(accounts.set_up(&set_up(&code), NOW)), Kind::Unknown, "once");
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
    again.change_user("ann", &change).unwrap();
    assert_eq!(again.of_session(&secret, "192.0.2.1", NOW), None);
    let _ = std::fs::remove_file(file);
}

#[test]
fn guessing_is_counted_and_shut_out() {
    let (file, accounts) = accounts("guess");
    add(&accounts, "ann", Role::Admin);
    for _ in 0..5 {
        assert_eq!(kind(accounts.log_in(&login("ann", "wrong wrong"), "192.0.2.1", "", NOW)), Kind::Unknown);
    }
    let right = login("ann", "correct horse");
    assert_eq!(kind(accounts.log_in(&right, "192.0.2.9", "", NOW)), Kind::Locked, "by name");
    assert_eq!(kind(accounts.log_in(&login("bob", "x"), "192.0.2.1", "", NOW)), Kind::Locked, "by address");
    assert!(accounts.users(NOW)[0].locked_ms > 0 && accounts.failures() == 10);
    accounts.log_in(&right, "192.0.2.9", "", NOW + 31_000).unwrap();
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
    assert_eq!(kind(accounts.remove_user("ann")), Kind::Failed);
    let demote = api::UserChange { role: Some(Role::Viewer), ..Default::default() };
    assert_eq!(kind(accounts.change_user("ann", &demote)), Kind::Failed);
    accounts.remove_user("bob").unwrap();
    assert_eq!(kind(accounts.remove_user("bob")), Kind::NotFound);
    let odd = api::NewUser { name: "a b;$(id)".into(), role: Role::Viewer, password: "correct horse".into() };
    assert_eq!(kind(accounts.add_user(&odd, NOW)), Kind::Invalid);
    let _ = std::fs::remove_file(file);
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
    assert!(other.adopt(&one.shared().1).unwrap() && !other.adopt(&one.shared().1).unwrap());
    other.log_in(&login("ann", "correct horse"), "192.0.2.1", "x", NOW).unwrap();
    assert_eq!(other.of_session(&secret, "192.0.2.1", NOW), None, "sessions are of one node");
    add(&other, "bob", Role::Viewer);
    assert!(one.adopt(&other.shared().1).unwrap());
    assert!(one.users(NOW).len() == 2 && one.of_session(&secret, "192.0.2.1", NOW).is_some());
    let change = api::UserChange { password: Some("battery staple".into()), ..Default::default() };
    other.change_user("ann", &change).unwrap();
    assert!(one.adopt(&other.shared().1).unwrap());
    assert_eq!(one.of_session(&secret, "192.0.2.1", NOW), None, "its password is another");
    assert!(one.adopt("{").is_err());
    for file in [file, other_file] {
        let _ = std::fs::remove_file(file);
    }
}
