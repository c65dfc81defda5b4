//! Certificates of X.509 version 1, as `openssl x509 -req` made them for twenty years: no extensions, so no
//! names but the subject's and no word about their use. rustls refuses them.
//!
//! One is trusted where an authority that is configured signed it itself. It vouches for nobody else: no chain
//! goes through it.

use std::collections::HashSet;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::{CertificateError, Error};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA};
use x509_parser::prelude::{FromDer, X509Version};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::{Reason, ends, in_force};

/// Whether a certificate has no extensions because its version knows none.
pub fn is_before_3(certificate: &X509Certificate<'_>) -> bool {
    certificate.version() != X509Version::V3
}

/// `None` where the certificate is of version 3: others say then whether it is trusted.
pub fn verify(
    certificate: &CertificateDer<'_>,
    authorities: &[CertificateDer<'static>],
    listed: &Listed,
    now: UnixTime,
) -> Option<Result<(), Error>> {
    let (rest, leaf) = X509Certificate::from_der(certificate).ok()?;
    (rest.is_empty() && is_before_3(&leaf)).then(|| {
        in_force(&leaf, now)?;
        let signer = authorities.iter().position(|der| signed_by(&leaf, der));
        let signer = signer.ok_or_else(|| {
            Reason::error(
                "the certificate is of X.509 version 1 and none of the authorities signed it itself",
            )
        })?;
        match listed.is_unreadable || listed.by_authority[signer].contains(leaf.raw_serial()) {
            true => Err(CertificateError::Revoked.into()),
            false => Ok(()),
        }
    })
}

/// The serial numbers on lists that authorities signed. Authorities without a list are taken at their word.
#[derive(Debug)]
pub struct Listed {
    /// In the order of the authorities.
    by_authority: Vec<HashSet<Vec<u8>>>,
    has_lists: bool,
    /// One of the lists cannot be read.
    is_unreadable: bool,
}

impl Listed {
    pub fn new(
        lists: &[CertificateRevocationListDer<'static>],
        authorities: &[CertificateDer<'static>],
    ) -> Listed {
        let parsed = || lists.iter().filter_map(|der| CertificateRevocationList::from_der(der).ok());
        let serials = |authority: &CertificateDer<'_>| {
            let of = parsed().filter(|(_, list)| is_signed_by(list, authority)).flat_map(|(_, list)| {
                list.iter_revoked_certificates().map(|one| one.raw_serial().to_vec()).collect::<Vec<_>>()
            });
            of.collect()
        };
        Listed {
            by_authority: authorities.iter().map(serials).collect(),
            has_lists: !lists.is_empty(),
            is_unreadable: parsed().count() < lists.len(),
        }
    }

    /// Whether an authority of the name that the certificate's issuer has names it.
    pub fn has(&self, certificate: &CertificateDer<'_>, authorities: &[CertificateDer<'static>]) -> bool {
        if !self.has_lists {
            return false;
        }
        let Ok((_, leaf)) = X509Certificate::from_der(certificate) else { return true };
        self.by_authority.iter().zip(authorities).any(|(serials, authority)| {
            serials.contains(leaf.raw_serial())
                && ends(authority).is_some_and(|(subject, _)| subject == leaf.tbs_certificate.issuer.as_raw())
        })
    }
}

fn is_signed_by(list: &CertificateRevocationList<'_>, authority: &CertificateDer<'_>) -> bool {
    let Ok((_, authority)) = X509Certificate::from_der(authority) else { return false };
    list.issuer().as_raw() == authority.tbs_certificate.subject.as_raw()
        && list.verify_signature(authority.public_key()).is_ok()
}

/// Whether a list of what was revoked is of version 1.
pub fn is_old_list(list: &CertificateRevocationListDer<'_>) -> bool {
    let parsed = CertificateRevocationList::from_der(list);
    parsed.is_ok_and(|(_, list)| list.version().is_none_or(|version| version == X509Version::V1))
}

/// Whether one of the authorities signed a list.
pub fn is_list_of(list: &CertificateRevocationListDer<'_>, authorities: &[CertificateDer<'static>]) -> bool {
    let Ok((_, list)) = CertificateRevocationList::from_der(list) else { return false };
    authorities.iter().any(|authority| is_signed_by(&list, authority))
}

/// Whether a list says that it is of one of the authorities.
pub fn names_one_of(
    list: &CertificateRevocationListDer<'_>,
    authorities: &[CertificateDer<'static>],
) -> bool {
    let Ok((_, list)) = CertificateRevocationList::from_der(list) else { return true };
    let issuer = list.issuer().as_raw();
    authorities.iter().any(|der| ends(der).is_some_and(|(subject, _)| subject == issuer))
}

/// Whether an authority signed the certificate, by a hash that can still be relied on.
fn signed_by(leaf: &X509Certificate<'_>, authority: &CertificateDer<'_>) -> bool {
    let Ok((_, authority)) = X509Certificate::from_der(authority) else { return false };
    let is_weak = [OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA].contains(&leaf.signature_algorithm.algorithm);
    leaf.tbs_certificate.issuer.as_raw() == authority.tbs_certificate.subject.as_raw()
        && leaf.tbs_certificate.signature == leaf.signature_algorithm
        && may_sign(&authority)
        && !is_weak
        && leaf.verify_signature(Some(authority.public_key())).is_ok()
}

/// RFC 5280 section 6.1.4 (k) and (n). An authority of version 1 says neither: it is one by being configured.
fn may_sign(authority: &X509Certificate<'_>) -> bool {
    let is_ca = matches!(authority.basic_constraints(), Ok(Some(found)) if found.value.ca);
    let signs = match authority.key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Err(_) => false,
    };
    // Limits to some names are looked at for chains alone.
    let is_limited = authority.name_constraints().map_or(true, |found| found.is_some());
    is_before_3(authority) || (is_ca && signs && !is_limited)
}
