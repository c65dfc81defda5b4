//! What a service has to do with the machines that connect to it, before any request is looked at.

use evenkeel_model::{ClientAddressRule, Mode};

use super::Builder;
use crate::section::{Section, network};

impl Builder<'_> {
    /// Who is believed about clients' addresses.
    pub(super) fn client_address(&mut self, table: Section<'_>, mode: Mode) -> Option<ClientAddressRule> {
        let section = table.section("client-address")?;
        if mode == Mode::Tcp {
            let message = "`client-address` reads headers, which mode \"tcp\" does not".to_owned();
            let help = "use mode = \"http\", or `proxy-protocol-from`";
            self.problem(table.span("client-address"), message, help);
        }
        let trusted = section.texts("trusted");
        if trusted.is_empty() && section.value("trusted").is_some() {
            let help = "name the networks of the CDN or proxy";
            self.problem(section.span("trusted"), "`trusted` names nobody".to_owned(), help);
        }
        Some(ClientAddressRule {
            header: section.text("header").unwrap_or_default().to_owned(),
            files: trusted.iter().filter(|text| text.starts_with('/')).map(Into::into).collect(),
            trusted: trusted.iter().filter_map(|text| network(text)).collect(),
            recursive: section.text("last") != Some("always"),
        })
    }
}
