//! A service that ends TLS in front of another one of the same machine is one service with it.

use crate::draft::{Draft, Service, Table};
use crate::words::{is_loopback, split_port};

impl Draft {
    /// A service that ends TLS and hands over to another service of this machine becomes one with it.
    pub fn join_layers(&mut self) {
        let mut at = 0;
        while at < self.services.len() {
            let front = &self.services[at];
            let ends_tls = front.table.has("tls") && front.routes.iter().all(goes_on);
            let only = front.own.as_ref().filter(|p| p.servers.len() == 1 && ends_tls);
            let target = only.and_then(|p| p.servers[0].text_of("address")).map(str::to_owned);
            let fronts = &front.vips;
            let found = target.and_then(|target| {
                self.services.iter().position(|s| {
                    !s.table.has("tls") && s.vips.iter().any(|vip| covers(vip, &target, fronts))
                })
            });
            let Some(back) = found.filter(|back| *back != at) else {
                at += 1;
                continue;
            };
            let front = self.services.remove(at);
            let back = if back > at { back - 1 } else { back };
            self.merge(front, back);
        }
    }

    /// The front's VIPs, certificates and comments; the back's servers and everything else.
    fn merge(&mut self, front: Service, back: usize) {
        let inner = self.services[back].clone();
        let mut joined = inner.clone();
        joined.name = self.fresh(&format!("{}-tls", inner.name));
        joined.table.comments = vec![
            format!("{} ended TLS in front of {}: here it is one service.", front.name, inner.name),
            "Real servers see the client's address where the service behind them says so.".into(),
        ];
        joined.table.comments.extend(front.table.comments.clone());
        joined.vips.clone_from(&front.vips);
        // What refuses or changes requests reads them.
        joined.mode.clone_from(if front.routes.is_empty() { &inner.mode } else { &front.mode });
        for key in ["tls", "forwarded"] {
            if let Some(line) = front.table.lines.iter().find(|l| l.key == key) {
                joined.table.put(line.clone());
            }
        }
        let known = joined.routes.clone();
        joined.routes.splice(0..0, front.routes.into_iter().filter(|route| !known.contains(route)));
        let places = |route: &Table| route.has("rewrite-location");
        joined.answer_routes.extend(front.answer_routes.into_iter().filter(|route| !places(route)));
        // Both use the same servers.
        if let Some(mut own) = joined.own.take() {
            let name = self.fresh(&format!("{}-servers", inner.name));
            own.name.clone_from(&name);
            own.table.comments.clear();
            joined.pool = Some(name.clone());
            let behind = &mut self.services[back];
            (behind.own, behind.pool) = (None, Some(name));
            self.pools.push(own);
        }
        self.services.push(joined);
    }
}

/// Whether requests that a route does not refuse go where they would without it.
fn goes_on(route: &Table) -> bool {
    const CHANGES: &[&str] =
        &["name", "when", "set-header", "add-header", "remove-header", "remove-header-matching"];
    route.has("deny") || route.lines.iter().all(|line| CHANGES.contains(&line.key.as_str()))
}

/// Whether a VIP has this address and port. One for all addresses has those of this machine that are known: its
/// own, and that of the service in front.
fn covers(vip: &str, target: &str, fronts: &[String]) -> bool {
    let ((host, ports), (address, port)) = (split_port(vip), split_port(target));
    let own = is_loopback(address) || fronts.iter().any(|front| split_port(front).0 == address);
    let any = ["0.0.0.0", "[::]", "*"].contains(&host) && own;
    (any || host == address) && ports.zip(port).is_some_and(|(all, one)| all.split(',').any(|p| p == one))
}
