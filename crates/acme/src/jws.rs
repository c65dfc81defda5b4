//! Signed messages to the authority (RFC 7515, RFC 8555 section 6.2).

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::key::AccountKey;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

/// A message signed by an account's key. `account` is its URL, where it has one already; nothing as
/// `payload` asks for what is there (POST-as-GET).
pub fn signed(
    key: &AccountKey,
    account: Option<&str>,
    nonce: &str,
    url: &str,
    payload: Option<&Value>,
) -> Result<Vec<u8>, String> {
    let protected = match account {
        Some(account) => json!({ "alg": "ES256", "kid": account, "nonce": nonce, "url": url }),
        None => json!({ "alg": "ES256", "jwk": key.jwk(), "nonce": nonce, "url": url }),
    };
    let protected = encode(protected.to_string());
    let payload = payload.map_or_else(String::new, |payload| encode(payload.to_string()));
    let signature = key.sign(format!("{protected}.{payload}").as_bytes())?;
    let whole = json!({ "protected": protected, "payload": payload, "signature": encode(signature) });
    Ok(whole.to_string().into_bytes())
}

/// The proof that the account's key belongs to an account outside (RFC 8555 section 7.3.4).
pub fn external(key: &AccountKey, key_id: &str, secret: &[u8], url: &str) -> Value {
    let protected = encode(json!({ "alg": "HS256", "kid": key_id, "url": url }).to_string());
    let payload = encode(key.jwk().to_string());
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&secret, format!("{protected}.{payload}").as_bytes());
    json!({ "protected": protected, "payload": payload, "signature": encode(signature) })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn what_is_signed_can_be_verified() {
        let key = AccountKey::make().unwrap();
        let again = AccountKey::from_pkcs8(key.pkcs8()).unwrap();
        assert_eq!(key.thumbprint(), again.thumbprint());
        assert_eq!(format!("{key:?}"), "AccountKey");
        let bytes = signed(&again, Some("https://a/1"), "n", "https://a/2", None).unwrap();
        let whole: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(whole["payload"], "");
        let message = format!("{}.", whole["protected"].as_str().unwrap());
        let part = |text: &Value| BASE64URL_NOPAD.decode(text.as_str().unwrap().as_bytes()).unwrap();
        let (x, y) = (part(&key.jwk()["x"]), part(&key.jwk()["y"]));
        let point = [&[4][..], &x, &y].concat();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        public.verify(message.as_bytes(), &part(&whole["signature"])).unwrap();
    }
}
