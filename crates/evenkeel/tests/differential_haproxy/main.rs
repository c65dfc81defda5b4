//! One configuration under Debian's HAProxy and under `evenkeel haproxy -f`, with the same clients and
//! servers: what clients get, what servers see, which are chosen, lines of the log, states.
//!
//! Many small configurations run in one process of each side, on ports of their own. What the program
//! refuses with a message is listed where the cases are; what differs without one fails.

mod case;
mod compare;
mod conditions;
mod rules;
mod settings;
mod side;

use compare::compare;
use evenkeel_testbed::Place;

/// Files that cases name.
fn prepare(place: &Place) {
    place.write("words.lst", "/app/One.php\none\nwww.example.org\nRed\n/app\nX=1\n");
    place.write("networks.lst", "# who is let in\n10.0.0.0/8\n127.0.0.0/8\n");
    place.write("names.map", "/app /mapped\none first\nwww.example.org WWW\n127.0.0.0/8 loop\n");
    place.write(
        "503.http",
        "HTTP/1.0 503 Service Unavailable\r\nCache-Control: no-cache\r\nContent-Type: text/plain\r\nX-Page: own\r\n\r\nsorry",
    );
    place.write("403.http", "HTTP/1.0 403 Forbidden\r\nContent-Type: text/plain\r\nX-Page: own\r\n\r\nno");
    place.write("page.html", "<b>page</b>\n");
    place.write("page.lf", "path %[path] of %[req.hdr(host)]\n");
}

#[test]
fn fetches_flags_and_ways_to_compare() {
    compare("flags", &conditions::flags(), conditions::TOLD, conditions::KNOWN);
}

#[test]
fn rules_of_requests() {
    compare("requests", &rules::of_requests(), rules::TOLD, rules::KNOWN);
}

#[test]
fn rules_of_answers_and_connections() {
    compare("answers", &rules::of_answers(), rules::TOLD, rules::KNOWN);
}

#[test]
fn options_balance_cookies_and_pages() {
    compare("settings", &settings::all(), settings::TOLD, settings::KNOWN);
}

#[test]
fn checks_and_states() {
    compare("checks", &settings::checks(), settings::TOLD, settings::KNOWN);
}

#[test]
fn defaults_and_scopes() {
    compare("scopes", &settings::scopes(), settings::TOLD, settings::KNOWN);
}
