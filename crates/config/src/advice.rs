//! What a configuration may say, but hardly means.

use evenkeel_model::{Name, Normalize, Persistence, SameSite, ServerTls, Snapshot};

/// One sentence for each thing that will not work as it seems.
pub fn warnings(snapshot: &Snapshot) -> Vec<String> {
    let pools = snapshot.pools.iter().filter_map(|pool| match &pool.persistence {
        Persistence::Cookie(rule) if rule.samesite == Some(SameSite::None) && !rule.secure => Some(format!(
            "pool {}: the cookie {} has samesite = \"none\" without secure = true: browsers refuse it",
            pool.name, rule.name
        )),
        _ => None,
    });
    pools.chain(anybody(snapshot)).chain(places(snapshot)).chain(unmatchable(snapshot)).collect()
}

/// Routes with a pattern that nothing matches: one that protects something does not.
fn unmatchable(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    snapshot.services.iter().filter(|service| service.normalize != Normalize::Off).flat_map(|service| {
        let answers = service.answer_routes.iter().map(|answer| &answer.route);
        let routes = service.routes.iter().chain(answers);
        routes.flat_map(move |route| {
            let tests = route.when.iter().flat_map(evenkeel_rules::Expression::unmatchable);
            tests.map(move |why| format!("route {} of virtual service {}: {why}", route.name, service.name))
        })
    })
}

/// Servers that may be anybody who has a certificate of an authority that everybody trusts.
fn anybody(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    let is_anybody = |tls: &ServerTls| tls.verify && !tls.verify_name && tls.ca.is_none();
    let pools = snapshot.pools.iter().filter(move |pool| {
        let own = pool.real_servers.iter().filter_map(|server| server.tls(pool));
        pool.server_tls.iter().chain(own).any(is_anybody)
    });
    pools.map(|pool| {
        format!(
            "pool {}: server-tls has verify-name = false without a `ca`: whoever has a certificate of a well-known authority passes for a server",
            pool.name
        )
    })
}

/// Servers of layer 7 whose places were to grow, and do not.
fn places(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    let in_kernel = |name: &Name| snapshot.services.iter().any(|s| s.mode.is_layer4() && s.pool == *name);
    let pools = snapshot.pools.iter().filter(move |pool| {
        pool.real_servers.iter().any(|server| server.min_connections > 0) && !in_kernel(&pool.name)
    });
    pools.flat_map(|pool| {
        let grow = pool.real_servers.iter().filter(|server| server.min_connections > 0);
        grow.filter_map(|server| {
            let (least, most) = (server.min_connections, server.max_connections);
            let why = if pool.full_connections == 0 {
                "without `full-connections` of the pool: its places do not grow, it has all of them"
            } else if least > most {
                "and a smaller max-connections: its places do not grow, it has max-connections of them"
            } else {
                return None;
            };
            Some(format!("real server {} of {} has min-connections {why}", server.name, pool.name))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_may_be_anybody_are_told() {
        let said = |tls: &str| {
            let text = format!(
                "[[virtual-service]]\nname = \"w\"\nvip = [\"192.0.2.1:80\"]\nmode = \"http\"\nserver-tls = {tls}\n[[virtual-service.real-server]]\nname = \"s\"\naddress = \"192.0.2.2:443\"\n"
            );
            warnings(&crate::read(&text).unwrap_or_else(|problems| panic!("{problems:?}")))
        };
        assert!(said("{ verify-name = false }")[0].contains("well-known"));
        assert_eq!(said("{ verify-name = false, ca = \"/a.pem\" }"), [""; 0]);
        assert_eq!(said("{}"), [""; 0]);
        assert_eq!(said("{ verify = false, verify-name = false }"), [""; 0]);
    }

    #[test]
    fn places_that_do_not_grow_are_told_and_start_all_the_same() {
        let said = |pool: &str, server: &str, mode: &str| {
            let text = format!(
                "[[virtual-service]]\nname = \"w\"\nvip = [\"192.0.2.1:80\"]\nmode = \"{mode}\"\n{pool}\n[[virtual-service.real-server]]\nname = \"s\"\naddress = \"192.0.2.2:80\"\n{server}\n"
            );
            warnings(&crate::read(&text).unwrap_or_else(|problems| panic!("{problems:?}")))
        };
        let full = "full-connections = 8";
        assert_eq!(said(full, "min-connections = 1\nmax-connections = 4", "http"), [""; 0]);
        let without = said("", "min-connections = 1\nmax-connections = 4", "http");
        assert!(without[0].contains("without `full-connections`"), "{without:?}");
        let turned = said(full, "min-connections = 4\nmax-connections = 1", "tcp");
        assert!(turned[0].contains("a smaller max-connections"), "{turned:?}");
        // Layer 4 has thresholds of another kind.
        assert_eq!(said("", "min-connections = 1\nmax-connections = 4", "nat"), [""; 0]);
    }
}
