//! Places of servers that grow with what their backend has to do: `minconn`, `maxconn` and `fullconn`.

use super::proxy::{Proxy, SectionKind};
use crate::draft::{Draft, Pool, Value};

/// Says at how many clients servers have all their places, where some have fewer before.
pub fn grow(proxy: &Proxy, pool: &mut Pool, draft: &mut Draft) {
    let full = proxy.last("fullconn").map(|word| (word.line, word.arg(1).to_owned()));
    let mut grows = false;
    for server in &mut pool.servers {
        let number = |key: &str| server.get(key).and_then(Value::as_number).unwrap_or(0);
        let (least, most) = (number("min-connections"), number("max-connections"));
        grows |= least > 0 && least < most;
        if least == 0 || least >= most {
            server.lines.retain(|line| line.key != "min-connections");
        }
        if least > most {
            // HAProxy has it so too: the larger number is the only one.
            server.lines.retain(|line| line.key != "max-connections");
            server.set("max-connections", least);
        }
    }
    // HAProxy's own: a tenth of the connections of those that lead there.
    let own = proxy.last("maxconn").and_then(|word| word.arg(1).parse::<u64>().ok());
    let own = own.filter(|_| proxy.kind == SectionKind::Listen).map(|all| all.div_ceil(10).to_string());
    match (grows, full) {
        (true, Some((_, full))) => pool.table.number("full-connections", &full),
        (true, None) => match own {
            Some(full) => pool.table.number("full-connections", &full),
            None => {
                let line = proxy.last("server").map_or(0, |word| word.line);
                draft.left(
                    line,
                    "minconn",
                    "not carried over: say by fullconn when servers have all of maxconn",
                );
                for server in &mut pool.servers {
                    server.lines.retain(|line| line.key != "min-connections");
                }
            }
        },
        (false, Some((line, _))) => {
            draft.remark(
                line,
                "fullconn",
                "without `minconn` of a server it changes nothing, in HAProxy neither",
            );
        }
        (false, None) => {}
    }
}
