//! Any text as a condition, a text with variables, a map and a list.
#![no_main]

use evenkeel_rules::{
    Captures, Expression, Facts, Fetch, LocalTime, Map, MapMatch, PathStart, Template, read_networks, read_patterns,
};
use libfuzzer_sys::fuzz_target;

const PATH: &[u8] = b"/a/b.example?c=d";

struct Nothing;

impl Facts for Nothing {
    fn texts(&self, _: Fetch, _: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        test(PATH)
    }
    fn address(&self, _: Fetch) -> Option<std::net::IpAddr> {
        Some([10, 0, 0, 1].into())
    }
    fn number(&self, _: Fetch, _: &[String]) -> Option<u64> {
        Some(443)
    }
    fn flag(&self, _: Fetch) -> bool {
        true
    }
    fn local_time(&self) -> LocalTime {
        LocalTime { weekday: 6, minute_of_day: 1439, unix_s: u64::MAX }
    }
    fn random(&self) -> u128 {
        7
    }

    fn host_name(&self) -> &[u8] {
        b"lb1"
    }
}

fuzz_target!(|text: &str| {
    let mut captures = Captures::wanted();
    match Expression::parse(text) {
        Ok(expression) => {
            let holds = expression.holds(&Nothing, &mut captures);
            let gated = expression.path_gate().is_some_and(|gate| !gate.lets(PATH, PathStart::of(PATH)));
            assert!(!(holds && gated), "a gate keeps nothing out that holds");
            expression.explain(&Nothing);
        }
        Err(error) => assert!(error.span.end <= text.len() && error.span.start <= error.span.end),
    }
    if let Ok(template) = Template::parse(text) {
        template.render(&Nothing, &captures, &mut Vec::new());
    }
    for (_, matching) in MapMatch::WORDS {
        if let Ok(map) = Map::read(text, matching) {
            map.get(text.as_bytes());
        }
    }
    for normal in [None, Some(evenkeel_rules::Fetch::Path), Some(evenkeel_rules::Fetch::Host)] {
        let form = evenkeel_rules::ListForm { folds: true, normal };
        read_patterns(text, form).0.matches(text.as_bytes());
    }
    let _ = read_networks(text);
});
