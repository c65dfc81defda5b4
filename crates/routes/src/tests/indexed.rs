//! Many routes: the walk by the index does what the plain walk does, route by route.

use super::*;

/// Asks every route.
struct Plainly(Counts);

impl Effects<Plain> for Plainly {
    fn track(&mut self, table: &String, key: &[u8]) {
        self.0.track(table, key);
    }

    fn count(&mut self, table: &String, key: &[u8], counter: Counter, amount: u64, keeps: bool) {
        self.0.count(table, key, counter, amount, keeps);
    }

    fn take(&mut self, limit: &u32, key: &[u8]) -> Result<(), u64> {
        self.0.take(limit, key)
    }

    fn enter(&mut self, limit: &u32, key: &[u8]) -> bool {
        self.0.enter(limit, key)
    }

    fn asks_all(&self) -> bool {
        true
    }
}

/// The routes that the walk by the index has asked.
#[derive(Default)]
struct Asked(Vec<String>);

impl Effects<Plain> for Asked {
    fn track(&mut self, _: &String, _: &[u8]) {}

    fn count(&mut self, _: &String, _: &[u8], _: Counter, _: u64, _: bool) {}

    fn take(&mut self, _: &u32, _: &[u8]) -> Result<(), u64> {
        Ok(())
    }

    fn enter(&mut self, _: &u32, _: &[u8]) -> bool {
        true
    }

    fn asked(&mut self, route: &Route<Plain>, _: bool, _: &dyn Facts) {
        self.0.push(route.name.to_string());
    }
}

const LEAVES: &[&str] = &[
    "path(\"/a\")",
    "path(\"/a/b\", \"/b\")",
    "path(\"/a*\")",
    "path(\"/a/*\", \"*.js\")",
    "path(\"*\")",
    "path(\"/*/b\")",
    "path == \"/b\"",
    "path != \"/b\"",
    "path =~ \"^/a\"",
    "path =~ \"b$\"",
    "path =~ \"(?i)^/A/.*s$\"",
    "path !~ \"js\"",
    "path(\"@/list\")",
    "host(\"a.example\")",
    "host(\"A.Example\", \"x.b.example\")",
    "host(\"*.example\")",
    "host(\"new.*\")",
    "host == \"New.example\"",
    "host =~ \"^new\"",
    "method(\"PUT\")",
    "header(\"X-A\", \"one\")",
    "variable(\"v\", \"/a*\")",
    "text(\"{host}\", \"a.example\")",
];
const STEPS: &[&str] = &[
    "rewrite-path = '/a/b'",
    "rewrite-path = '/{1}x.js'",
    "rewrite-uri = '/b?{path}'",
    "set-header = { Host = 'new.example' }",
    "add-header = { host = 'x.b.example' }",
    "remove-header = ['H*']",
    "edit-header = { Host = 'x.b.example' }",
    "set-variable = { v = '{path}' }",
    "capture = { c = '{1}' }",
    "track = 't'",
    "basic-auth = { accounts = { a = 'hash' } }",
];
const TARGETS: &[&str] = &["/", "/a", "/a/b?q", "/b", "/x.js", "/a/x.JS", "/listed/b", "/%61", "*", "/c/b"];
const HOSTS: &[&str] = &["a.example:81", "A.EXAMPLE", "x.b.example", "new.example.", "other", ""];

fn condition(dice: &mut Dice) -> String {
    let [a, b, c] = [(); 3].map(|()| dice.one(LEAVES));
    match dice.below(7) {
        0..=2 => a.to_owned(),
        3 => format!("{a} && {b}"),
        4 => format!("{a} || {b}"),
        5 => format!("!({a}) && {b}"),
        _ => format!("({a} || {b}) && {c}"),
    }
}

fn many(dice: &mut Dice) -> String {
    let mut text = String::new();
    for _ in 0..12 + dice.below(130) {
        let always = dice.below(20) == 0;
        let when = if always { String::new() } else { format!("when = '{}'\n", condition(dice)) };
        let ending = if dice.below(40) == 0 { "pool = 'other'" } else { "" };
        text += &route(&format!("{when}{}\n{ending}", dice.one(STEPS)));
    }
    let conditions = [&["status >= 200", "answer-header(\"Server\", \"*\")"], LEAVES].concat();
    for number in 0..dice.below(30) {
        let when = dice.one(&conditions);
        text +=
            &answer_route(&format!("when = '{when}'\nset-header = {{ X-{number} = '{{path}} {{host}}' }}"));
    }
    text
}

#[test]
fn the_index_changes_nothing_but_what_it_costs() {
    for seed in 1..=150u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let text = many(&mut dice);
        let routes = routes(&text);
        // Memory of earlier requests is used again.
        let (mut changes, mut plain_changes) = (Changes::default(), Changes::default());
        for _ in 0..30 {
            let mut request = get(dice.one(TARGETS));
            request.method = ["GET", "PUT"][dice.below(2)];
            request.headers[0].1 = dice.one(HOSTS).into();
            request.server = [None, Some("main1")][dice.below(2)];
            let about = format!("seed {seed}, {} {:?}\n{text}", request.target, request.headers);
            let (mut quick, mut plainly) = (Counts::default(), Plainly(Counts::default()));
            let end = walked(&routes, &request, &mut quick, &mut changes);
            assert_eq!(end, walked(&routes, &request, &mut plainly, &mut plain_changes), "{about}");
            let answered = walk_answer(&routes, &request, 200, &mut quick, &mut changes);
            let plain_answered = walk_answer(&routes, &request, 200, &mut plainly, &mut plain_changes);
            assert_eq!(answered, plain_answered, "{about}");
            assert_eq!(
                (outcome(&changes), quick.tracked),
                (outcome(&plain_changes), plainly.0.tracked),
                "{about}"
            );
            changes.clear();
            plain_changes.clear();
        }
    }
}

#[test]
fn of_many_routes_few_are_asked() {
    let each = |when: &dyn Fn(u32) -> String| -> String {
        (0..1_000).map(|n| route(&format!("when = '{}'\nset-variable = {{ v = '{n}' }}", when(n)))).collect()
    };
    let mut request = get("/app7/x");
    request.headers[0].1 = "h7.example".into();
    for (text, asked) in [
        (each(&|n| format!("host(\"h{n}.example\")")), vec!["route-8"]),
        (each(&|n| format!("path(\"/app{n}/*\")")), vec!["route-8"]),
        (each(&|n| format!("path =~ \"^/app{n}/[a-z]\"")), vec!["route-8"]),
        (each(&|n| format!("host(\"*.example\") && path(\"/app{n}/x\")")), vec!["route-8"]),
        (each(&|n| format!("host(\"h{}.example\") && path =~ \"p{n}/x$\"", n % 10)), vec!["route-8"]),
    ] {
        let mut effects = Asked::default();
        walked(&routes(&text), &request, &mut effects, &mut Changes::default());
        assert_eq!(effects.0, asked);
    }
}
