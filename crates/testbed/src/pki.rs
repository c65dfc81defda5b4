//! An authority of the test's own, and certificates that it signs.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, RevokedCertParams, SerialNumber, date_time_ymd,
};

use crate::Place;

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// PEM file of its certificate.
    pub file: PathBuf,
}

impl Authority {
    pub fn new(place: &Place, name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let file = place.write(&format!("{name}.pem"), issuer.as_ref().pem());
        Authority { issuer, file }
    }

    /// Writes certificate and key for host names into one file.
    pub fn server(&self, place: &Place, file: &str, names: &[&str]) -> PathBuf {
        self.sign(
            place,
            file,
            &server_params(names),
            &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key"),
        )
    }

    /// A server's certificate that began so long ago and ends in such a time.
    pub fn server_within(
        &self,
        place: &Place,
        file: &str,
        names: &[&str],
        began: Duration,
        ends: Duration,
    ) -> PathBuf {
        let mut params = server_params(names);
        params.not_before = (SystemTime::now() - began).into();
        params.not_after = (SystemTime::now() + ends).into();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        self.sign(place, file, &params, &key)
    }

    pub fn server_rsa(&self, place: &Place, file: &str, names: &[&str]) -> PathBuf {
        self.sign(
            place,
            file,
            &server_params(names),
            &KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key"),
        )
    }

    /// A client's certificate; the serial number tells it from others.
    pub fn client(&self, place: &Place, file: &str, name: &str, serial: u64) -> PathBuf {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationalUnitName, "Sales");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from(serial));
        self.sign(place, file, &params, &KeyPair::generate().expect("a key"))
    }

    /// The same with a time at which it ended.
    pub fn client_expired(&self, place: &Place, file: &str, name: &str, ended: Duration) -> PathBuf {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from(99));
        params.not_before = (SystemTime::now() - 2 * ended).into();
        params.not_after = (SystemTime::now() - ended).into();
        self.sign(place, file, &params, &KeyPair::generate().expect("a key"))
    }

    /// A list that revokes serial numbers.
    pub fn revocations(&self, place: &Place, file: &str, serials: &[u64]) -> PathBuf {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("a list");
        place.write(file, list.pem().expect("PEM"))
    }

    /// Writes the certificate of these parameters and its key into one file.
    fn sign(&self, place: &Place, file: &str, params: &CertificateParams, key: &KeyPair) -> PathBuf {
        let certificate = params.signed_by(key, &self.issuer).expect("a certificate");
        place.write(file, certificate.pem() + &key.serialize_pem())
    }
}

fn server_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).expect("names");
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("", String::as_str));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.serial_number = Some(SerialNumber::from(1));
    params
}
