//! People, their tokens and second factors, attacked from outside: who holds a stolen session or token, or makes
//! somebody's browser ask.

use std::time::Duration;

use aws_lc_rs::hmac;
use evenkeel_testbed::{command, require};
use serde_json::{Value, json};

use crate::admin::{ADMIN, began, rest_of, session_of};
use crate::cost::Target;

const PASSWORD: &str = "correct horse battery";

struct Api<'a>(&'a Target);

impl Api<'_> {
    fn add(&self, name: &str, role: &str) {
        let password = self.0.place.write("password", format!("{PASSWORD}\n"));
        let add = format!(
            "EVENKEEL_SOCKET={} {} user add {name} --role {role} --password-stdin < {}",
            self.0.evenkeel.socket().display(),
            env!("CARGO_BIN_EXE_evenkeel"),
            password.display()
        );
        assert_eq!(command("sh", &["-c", &add]).code, 0);
    }

    /// The status and what the answer says.
    fn ask(&self, headers: &[String], method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut all = vec!["Content-Type: application/json".to_owned()];
        all.extend_from_slice(headers);
        let body = if method == "GET" { String::new() } else { body.to_string() };
        self.raw(&all, method, path, &body)
    }

    fn raw(&self, headers: &[String], method: &str, path: &str, body: &str) -> (u16, Value) {
        let url = format!("https://{}{path}", self.0.place.at(9443));
        let mut arguments =
            vec!["-sk", "-m", "25", "--path-as-is", "-w", "\n%{http_code}", "-X", method, &url];
        headers.iter().for_each(|header| arguments.extend(["-H", header]));
        if method != "GET" {
            arguments.extend(["--data-binary", body]);
        }
        let out = command("curl", &arguments).out;
        let (body, status) = out.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn token(&self, by: &[String], role: &str, days: Option<u32>) -> Result<(String, Vec<String>), u16> {
        let new = json!({ "name": "script", "role": role, "valid-days": days });
        let (status, made) = self.ask(by, "POST", "/api/v1/tokens", &new);
        if status != 200 {
            return Err(status);
        }
        let text = |key: &str| made[key].as_str().unwrap_or_default().to_owned();
        Ok((text("id"), vec![format!("Authorization: Bearer {}", text("token"))]))
    }
}

/// The six digits of RFC 6238.
fn code(secret: &str, steps_ahead: u64) -> String {
    let key = data_encoding::BASE32_NOPAD.decode(secret.as_bytes()).expect("a secret");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let tag = hmac::sign(&key, &(now / 30 + steps_ahead).to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 15);
    let four: [u8; 4] = tag.as_ref()[at..at + 4].try_into().expect("four bytes");
    format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000)
}

#[test]
fn tokens_end_with_what_they_were_made_with() {
    if !require(&["curl"]) {
        return;
    }
    let target = Target::start("hostile-tokens", ADMIN, "");
    let api = Api(&target);
    api.add("ann", "admin");
    api.add("owner", "admin");
    let ann = session_of(&target, "ann");
    let (first, by_first) = api.token(&ann, "admin", Some(1)).expect("a token");
    let (_, by_second) = api.token(&by_first, "admin", None).expect("a token of a token");
    let (_, by_third) = api.token(&by_second, "viewer", Some(900)).expect("a token of that");
    assert_eq!(api.token(&by_third, "operator", None).err(), Some(403), "more than it may");
    let listed = api.ask(&ann, "GET", "/api/v1/tokens", &Value::Null).1;
    let ends: Vec<u64> =
        listed.as_array().into_iter().flatten().filter_map(|t| t["expires-ms"].as_u64()).collect();
    assert!(ends.len() == 3 && ends.iter().all(|end| *end <= ends[0]), "none outlives the first: {listed}");
    assert!(listed.as_array().into_iter().flatten().all(|t| t["owner"] == "ann"), "{listed}");

    let live = |by: &[String]| began(&target, "GET /api/v1/live", by, "", 0);
    let mut streams: Vec<_> = [&by_first, &by_second, &by_third].into_iter().map(|by| live(by)).collect();
    std::thread::sleep(Duration::from_millis(300));
    target.evenkeel.ok(&["user", "role", "ann", "operator"]);
    for (by, stream) in [&by_first, &by_second].into_iter().zip(&mut streams) {
        let new = json!({ "name": "evil", "role": "admin", "password": PASSWORD });
        assert_eq!(api.ask(by, "POST", "/api/v1/users", &new).0, 403, "more than its person may");
        assert_eq!(api.ask(by, "GET", "/api/v1/status", &Value::Null).0, 200);
        assert!(rest_of(stream).1, "a stream of the role that it had");
    }
    target.evenkeel.ok(&["user", "role", "ann", "admin"]);

    let mut stream = live(&by_third);
    std::thread::sleep(Duration::from_millis(300));
    let owner = session_of(&target, "owner");
    assert_eq!(api.ask(&owner, "DELETE", &format!("/api/v1/tokens/{first}"), &Value::Null).0, 200);
    for by in [&by_first, &by_second, &by_third] {
        assert_eq!(api.ask(by, "GET", "/api/v1/status", &Value::Null).0, 401, "it outlives its maker");
    }
    assert!(rest_of(&mut stream).1, "a stream of a token that has ended");

    let (_, by_person) = api.token(&session_of(&target, "ann"), "viewer", None).expect("a token");
    let mut stream = live(&by_person);
    std::thread::sleep(Duration::from_millis(300));
    target.evenkeel.ok(&["user", "remove", "ann"]);
    assert_eq!(api.ask(&by_person, "GET", "/api/v1/status", &Value::Null).0, 401, "it outlives its person");
    assert!(rest_of(&mut stream).1, "a stream of somebody who is gone");
    api.add("ann", "admin");
    assert_eq!(
        api.ask(&by_person, "GET", "/api/v1/status", &Value::Null).0,
        401,
        "another person of that name"
    );
}

#[test]
fn a_stolen_session_replaces_no_second_factor() {
    if !require(&["curl"]) {
        return;
    }
    let target = Target::start("hostile-factor", ADMIN, "");
    let api = Api(&target);
    api.add("ann", "admin");
    api.add("owner", "admin");
    let ann = session_of(&target, "ann");
    let (_, by_token) = api.token(&ann, "admin", None).expect("a token");
    const OWN: &str = "/api/v1/self/second-factor";
    let begun = api.ask(&ann, "POST", OWN, &json!({})).1;
    let secret = begun["secret"].as_str().expect("a secret").to_owned();
    assert_eq!(api.ask(&ann, "PUT", OWN, &json!({ "code": code(&secret, 0) })).0, 200);

    // With what was stolen: the session, a token.
    let wrong = [
        json!({}),
        json!({ "password": PASSWORD }),
        json!({ "code": code(&secret, 1) }),
        json!({ "password": PASSWORD, "code": code(&secret, 0) }),
        json!({ "password": PASSWORD, "code": "" }),
        json!({ "password": "wrong horse battery", "code": code(&secret, 1) }),
    ];
    for proof in wrong {
        let (status, said) = api.ask(&ann, "POST", OWN, &proof);
        assert!((400..500).contains(&status), "{proof}: {status} {said}");
    }
    assert_ne!(api.ask(&ann, "PUT", OWN, &json!({ "code": code(&secret, 1) })).0, 200, "nothing was begun");
    for by in [&ann, &by_token] {
        for name in ["ann", "%61nn", "a%6e%6e", "./ann", "ann/"] {
            for change in [json!({ "second-factor": false }), json!({ "password": "another horse battery" })]
            {
                let (status, said) = api.ask(by, "PUT", &format!("/api/v1/users/{name}"), &change);
                assert!([403, 404, 405].contains(&status), "{name} {change}: {status} {said}");
            }
        }
        assert_ne!(api.ask(&by_token, "POST", OWN, &json!({})).0, 200);
    }

    // With the password alone, and under other spellings of the name.
    let login_from = |source: &str, name: &str, code: Option<&str>| {
        let body = json!({ "name": name, "password": PASSWORD, "code": code }).to_string();
        let url = format!("https://{}/api/v1/login", target.place.at(9443));
        let kind = "Content-Type: application/json";
        let arguments = ["-sk", "-m", "25", "--interface", source, "-o", "/dev/null", "-w", "%{http_code}"];
        let out = command("curl", &[&arguments[..], &["-H", kind, "-d", &body, &url]].concat()).out;
        out.parse::<u16>().unwrap_or(0)
    };
    let login = |name: &str, code: Option<&str>| login_from("127.0.0.1", name, code);
    assert!((400..500).contains(&login("ann", None)) && (400..500).contains(&login("ann", Some(""))));
    let spellings =
        ["Ann", "ANN", "ann ", " ann", "ann\0", "ann.", "\u{430}nn", "ann\u{301}", "ann (token script)"];
    for (number, name) in spellings.into_iter().enumerate() {
        // Each from a network of its own: five wrong ones would shut the door.
        let status = login_from(&format!("127.78.{number}.1"), name, Some(&code(&secret, 1)));
        assert_eq!(status, 401, "{name:?} is somebody else");
    }
    let good = code(&secret, 1);
    assert_eq!(login("ann", Some(&good)), 200, "the owner");
    assert!((400..500).contains(&login("ann", Some(&good))), "a code is taken once");
}

#[test]
fn other_sites_make_nobodys_browser_act() {
    if !require(&["curl"]) {
        return;
    }
    let target = Target::start("hostile-origin", ADMIN, "");
    let api = Api(&target);
    api.add("ann", "admin");
    let ann = session_of(&target, "ann");
    let document = api.ask(&ann, "GET", "/api/v1/openapi.json", &Value::Null).1;
    let paths = document["paths"].as_object().expect("the document of the API").clone();
    let mut walked = 0;
    for (path, methods) in &paths {
        for method in methods.as_object().into_iter().flat_map(|m| m.keys()).filter(|m| *m != "get") {
            let place = path.replace(['{', '}'], "");
            // What a form sends, and what a script sends that asks nobody before.
            for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
            {
                for site in [None, Some("Sec-Fetch-Site: cross-site"), Some("Sec-Fetch-Site: same-site")] {
                    let mut headers = vec![
                        ann[0].clone(),
                        format!("Content-Type: {kind}"),
                        "Origin: https://evil.example".to_owned(),
                    ];
                    headers.extend(site.map(str::to_owned));
                    let body = json!({ "name": "ann", "password": PASSWORD, "code": null }).to_string();
                    let (status, said) = api.raw(&headers, &method.to_uppercase(), &place, &body);
                    assert!((400..500).contains(&status), "{method} {place} as {kind}: {status} {said}");
                    walked += 1;
                }
            }
        }
    }
    assert!(walked > 200, "{walked} requests are not the whole table");
    assert_eq!(api.ask(&ann, "GET", "/api/v1/self", &Value::Null).0, 200, "the session goes on");
}
