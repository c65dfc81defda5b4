//! `stickysession` with `route=` of members: a session's id ends with a dot and the route of its server, as Tomcat's
//! `jvmRoute` has it, in a cookie or in the path.

use super::{Host, Sessions, Words};
use crate::draft::{Service, Table};
use crate::words::{name, quoted, regex_literal};

/// For each member with a `route=`: the route that names its server. Empty where none has one.
pub(super) fn routes(session: &str, members: &[Words], servers: &[Table]) -> Vec<Table> {
    let (cookie, parameter) = session.split_once('|').unwrap_or((session, session));
    let of = |(_, words): &Words| {
        let route = words.iter().find_map(|word| word.strip_prefix("route="))?;
        let server = name(route);
        servers.iter().any(|known| known.text_of("name") == Some(&server)).then(|| (route.to_owned(), server))
    };
    let route = |(route, server): (String, String)| {
        let end = regex_literal(&route);
        let in_cookie = quoted(&format!("^[^.]*\\.{end}$"));
        let in_path = quoted(&format!("{}=[^.?&;]*\\.{end}([?&;]|$)", regex_literal(parameter)));
        let mut table = Table::default();
        table.text("name", &format!("session-of-{server}"));
        table
            .when(&format!("text(\"{{cookie:{cookie}}}\") =~ {in_cookie} || text(\"{{uri}}\") =~ {in_path}"));
        table.text("server", &server);
        table
    };
    members.iter().filter_map(of).map(route).collect()
}

/// Puts the routes of the balancers that a service passes on to before its own.
pub(super) fn place(sessions: &Sessions, service: &mut Service) {
    let uses = |pool: &str| {
        service.pool.as_deref() == Some(pool)
            || service.routes.iter().any(|r| r.text_of("pool") == Some(pool))
    };
    let own: Vec<Table> = sessions
        .iter()
        .filter(|(pool, _)| uses(pool))
        .flat_map(|(_, routes)| routes.iter().cloned())
        .collect();
    service.routes.splice(0..0, own);
}

/// Persistence by the cookie of `stickysession`. `learns`: no member says what its sessions end with.
pub(super) fn persist(session: &str, hosts: &[Host], learns: bool, pool: &mut Table) {
    let cookie = session.split('|').next().unwrap_or("").to_owned();
    // Apache sets the cookie itself where a Header directive says so; else the application does.
    let sets = hosts.iter().flat_map(|h| &h.lines).any(|(_, w)| {
        w[0].eq_ignore_ascii_case("Header")
            && w.iter().any(|v| v.starts_with(&format!("{cookie}=")) && v.contains("BALANCER_WORKER_ROUTE"))
    });
    let named = |kind: &str| Table::default().with_text("type", kind).with_text("name", &cookie);
    match sets {
        true => pool.set_with(
            "persistence",
            named("cookie").with_text("method", "insert"),
            "clients choose anew once: the value is the server's name",
        ),
        false if learns => pool.set("persistence", named("app-cookie")),
        false => {}
    }
}
