//! What a program of rules asks about: found by walking its tree, here alone. Who runs the program
//! learns from it what must be known before (a TLS client's first message, the path in normal form).

use crate::evaluate::Expression;
use crate::fetch::Fetch;
use crate::line::LineFormat;
use crate::template::Template;

/// A set of [`Fetch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants(u128);

impl Wants {
    pub fn add(&mut self, fetch: Fetch) {
        self.0 |= 1 << fetch as u32;
    }

    pub fn has(self, fetch: Fetch) -> bool {
        self.0 >> fetch as u32 & 1 == 1
    }

    pub fn join(&mut self, other: Wants) {
        self.0 |= other.0;
    }

    /// It must be read what a TLS client says first, where TLS is passed through.
    pub fn hello(self) -> bool {
        [Fetch::Sni, Fetch::Alpn, Fetch::TlsHello].into_iter().any(|fetch| self.has(fetch))
    }

    /// The path in normal form is looked at.
    pub fn path(self) -> bool {
        self.has(Fetch::Path)
    }
}

impl Expression {
    /// What it asks, in its tests and in the texts of them.
    pub fn wants(&self) -> Wants {
        let mut wants = Wants::default();
        self.visit(&mut |test| {
            wants.add(test.fetch);
            if let Some(text) = &test.template {
                wants.join(text.wants());
            }
        });
        wants
    }
}

impl Template {
    /// What its variables ask, and those of texts in its converters.
    pub fn wants(&self) -> Wants {
        let mut wants = Wants::default();
        self.visit(&mut |fetch| wants.add(fetch));
        wants
    }
}

impl LineFormat {
    /// What the line asks of the request or connection, beside its fields.
    pub fn wants(&self) -> Wants {
        let mut wants = Wants::default();
        self.requests().iter().for_each(|text| wants.join(text.wants()));
        wants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_condition(text: &str) -> Wants {
        Expression::parse(text).unwrap_or_else(|e| panic!("{text}: {}", e.message)).wants()
    }

    fn of_text(text: &str) -> Wants {
        Template::parse(text).unwrap_or_else(|e| panic!("{text}: {}", e.message)).wants()
    }

    #[test]
    fn each_fetch_has_a_place_of_its_own() {
        for function in crate::FUNCTIONS {
            let mut wants = Wants::default();
            wants.add(function.fetch);
            let others = crate::FUNCTIONS.iter().filter(|f| f.fetch != function.fetch);
            assert!(wants.has(function.fetch) && others.into_iter().all(|f| !wants.has(f.fetch)));
        }
    }

    #[test]
    fn the_hello_is_wanted_wherever_it_is_asked() {
        for text in [
            "sni(\"a.example\")",
            "!(port(1) || alpn(\"h2\"))",
            "tls-hello",
            "port(1) && text(\"{sni}\", \"a\")",
            "text(\"{ sni | lower }\", \"a\")",
            "text(\"{source|append(\\\"{sni}\\\")}\", \"a\")",
        ] {
            assert!(of_condition(text).hello(), "{text}");
        }
        for text in ["{sni}", "x{alpn}", "{ sni }", "{sni|lower}", "{source|append(\"{sni}\")}"] {
            assert!(of_text(text).hello(), "{text}");
            assert!(LineFormat::parse(&format!("{{client}} {text}")).unwrap().wants().hello(), "{text}");
        }
        for text in ["{{sni}}", "sni", "{source}", "{\"{sni\"}", "{header:sni}"] {
            assert!(!of_text(text).hello(), "{text}");
        }
        assert!(!of_condition("text(\"{source}\", \"{sni\")").hello(), "a pattern asks nothing");
        assert!(!LineFormat::parse("{client} {{sni}}").unwrap().wants().hello());
    }

    #[test]
    fn the_path_is_wanted_in_its_normal_form() {
        assert!(
            of_condition("path(\"/a*\")").path() && of_condition("text(\"{path|lower}\", \"/a\")").path()
        );
        assert!(!of_condition("raw-path(\"/a*\")").path() && !of_text("{uri}").path());
        assert!(of_text("{uri}").has(Fetch::Query), "parts of a variable are asked too");
    }
}
