//! Host names of servers' certificates that have none but in their subject (CN).
//!
//! RFC 6125 section 6.4.4 allows it as the last resort; Apache, nginx and HAProxy do it, and authorities of
//! companies still make such certificates.

use rustls::pki_types::ServerName;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{FromDer, GeneralName};

/// Whether the subject names the host, in a certificate without another name of a host.
pub fn is_common_name(certificate: &[u8], name: &ServerName<'_>) -> bool {
    let ServerName::DnsName(wanted) = name else { return false };
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let has_names = match parsed.subject_alternative_name() {
        Ok(None) => false,
        Ok(Some(found)) => found.value.general_names.iter().any(|n| matches!(n, GeneralName::DNSName(_))),
        Err(_) => true,
    };
    let names = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    // Of several the last is the most specific one.
    !has_names && names.last().is_some_and(|common| matches(common, wanted.as_ref()))
}

/// `*.` stands for one label, before at least two others.
fn matches(pattern: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let rest = |text| -> Option<&str> { Some(str::split_once(text, '.')?.1) };
    let wildcard = || {
        let suffix = pattern.strip_prefix("*.")?;
        Some(suffix.contains('.') && rest(name)?.eq_ignore_ascii_case(suffix))
    };
    pattern.eq_ignore_ascii_case(name) || wildcard().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_is_one_label_before_two_others() {
        assert!(matches("A.example.org", "a.Example.org") && matches("a.example.org", "a.example.org."));
        assert!(matches("*.example.org", "a.example.org"));
        assert!(!matches("*.example.org", "a.b.example.org") && !matches("*.example.org", "example.org"));
        assert!(!matches("*.org", "example.org") && !matches("*", "example.org"));
        assert!(!matches("", "a.example.org") && !matches("joe", "a.example.org"));
    }
}
