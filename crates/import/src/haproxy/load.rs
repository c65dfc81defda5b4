//! Samples that ask what proxies and servers have to do now: `nbsrv`, `be_conn`, `srv_is_up` and their like.

use crate::words::{name, quoted};

/// What stands for a sample.
#[derive(Debug, PartialEq, Eq)]
pub struct Figure {
    /// In a condition: a number, or what holds or does not.
    pub test: String,
    pub holds: bool,
    /// In a text, between its braces.
    pub text: String,
}

/// `own` is the proxy whose rule it is; none where the sample is another.
pub fn figure(fetch: &str, own: &str) -> Option<Result<Figure, String>> {
    let (sample, argument) = match fetch.split_once('(') {
        Some((sample, rest)) => (sample, rest.strip_suffix(')')?.trim()),
        None => (fetch, ""),
    };
    let number = |test: String, text: String| Some(Ok(Figure { test, holds: false, text }));
    let pool = name(if argument.is_empty() { own } else { argument });
    let of_pool = |word: &str| number(format!("{word}({})", quoted(&pool)), format!("{word}:{pool}"));
    match sample {
        "nbsrv" => of_pool("servers-up"),
        "be_conn" => of_pool("connections"),
        "queue" => of_pool("queued"),
        "fe_conn" if argument.is_empty() || argument == own => {
            number("service-connections".into(), "service-connections".into())
        }
        "fe_conn" => {
            Some(Err("connections of another frontend are not asked: fe_conn is this one's own".into()))
        }
        "srv_conn" | "srv_is_up" if !argument.is_empty() => {
            let (backend, server) = argument.split_once('/').unwrap_or((own, argument));
            let (pool, server) = (name(backend), name(server));
            if sample == "srv_conn" {
                let text = format!("server-connections:{pool},{server}");
                return number(format!("number({})", quoted(&format!("{{{text}}}"))), text);
            }
            let test = format!("server-up({}, {})", quoted(&pool), quoted(&server));
            Some(Ok(Figure { test, holds: true, text: String::new() }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_and_servers_by_their_names() {
        let check = |fetch: &str, test: &str, text: &str| {
            let found = figure(fetch, "own").unwrap().unwrap();
            assert_eq!((found.test.as_str(), found.text.as_str()), (test, text), "{fetch}");
        };
        check("nbsrv", "servers-up(\"own\")", "servers-up:own");
        check("nbsrv(b)", "servers-up(\"b\")", "servers-up:b");
        check("be_conn(b)", "connections(\"b\")", "connections:b");
        check("queue", "queued(\"own\")", "queued:own");
        check("fe_conn", "service-connections", "service-connections");
        let of_server = "server-connections:b,s";
        check("srv_conn(b/s)", &format!("number(\"{{{of_server}}}\")"), of_server);
        check("srv_is_up(b/s)", "server-up(\"b\", \"s\")", "");
        assert!(figure("fe_conn(other)", "own").unwrap().is_err());
        assert_eq!(figure("path", "own"), None);
    }
}
