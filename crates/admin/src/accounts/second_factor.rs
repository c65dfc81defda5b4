//! Time-based one-time codes (RFC 6238): SHA-1, six digits, thirty seconds.

use std::fmt::Write;

use evenkeel_api as api;
use qrcodegen::{QrCode, QrCodeEcc};
use totp_rs::{Builder, Secret, Totp};

use super::lock::Purpose;
use super::{Accounts, Waiting, Who, refused};
use crate::{FailureKind, Refused};

const SECRET_BYTES: usize = 20;

fn totp(secret: &str) -> Option<Totp> {
    let secret = Secret::try_from_base32(secret).ok()?;
    Builder::new().with_secret(secret).build().ok()
}

/// The step that a code is of, if it is right and of a later step than the last one taken.
pub fn step(secret: &str, code: &str, now_ms: u64, last: u64) -> Option<u64> {
    let code: String = code.chars().filter(char::is_ascii_digit).take(7).collect();
    let step = totp(secret)?.check(&code, now_ms / 1000)?;
    (step > last).then_some(step)
}

pub fn make(name: &str, node: &str) -> Result<(String, api::SecondFactor), Refused> {
    let failed = || Refused::new(FailureKind::Failed, "a second factor cannot be made");
    let mut raw = [0; SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut raw).map_err(|_| failed())?;
    let secret = Secret::from(&raw[..]).to_base32();
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
    };
    let issuer = format!("Evenkeel%20{}", plain(node));
    let url = format!("otpauth://totp/{issuer}:{}?secret={secret}&issuer={issuer}", plain(name));
    let picture = picture(&url).ok_or_else(failed)?;
    Ok((secret.clone(), api::SecondFactor { url, secret, picture }))
}

fn picture(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let size = code.size();
    let mut path = String::new();
    for y in 0..size {
        for x in (0..size).filter(|x| code.get_module(*x, y)) {
            let _ = write!(path, "M{} {}h1v1h-1z", x + 4, y + 4);
        }
    }
    let side = size + 8;
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\"><path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path d=\"{path}\"/></svg>"
    ))
}

impl Accounts {
    /// A secret that becomes the second factor with its first code. One that is there is replaced
    /// only by who has the password and a code of it: a session alone may be stolen.
    pub fn begin_second_factor(
        &self,
        who: &Who,
        node: &str,
        proof: &api::Proof,
        now_ms: u64,
    ) -> Result<api::SecondFactor, Refused> {
        let asked_of = self.inner().user(&who.name)?.second_factor.clone();
        if asked_of.is_some() {
            let (Some(password), Some(code)) = (&proof.password, &proof.code) else {
                let why = "the password and a code of the second factor that is to be replaced are needed";
                return Err(refused(FailureKind::Forbidden, why));
            };
            self.password_is_right(who, password, now_ms)?;
            let mut inner = self.inner();
            inner.lock.may(Purpose::Code, &who.name, &who.from, now_ms)?;
            let user = inner.user(&who.name)?;
            let taken = asked_of.as_ref().and_then(|secret| step(secret, code, now_ms, user.last_step));
            match taken {
                Some(step) => user.last_step = step,
                None => {
                    inner.lock.failed(Purpose::Code, &who.name, &who.from, now_ms);
                    return Err(refused(FailureKind::Invalid, "the code is wrong, or was used before"));
                }
            }
        }
        let mut inner = self.acting(who, now_ms)?;
        let before = inner.user(&who.name)?.second_factor.clone();
        if before != asked_of {
            return Err(refused(FailureKind::Failed, "the second factor was changed meanwhile"));
        }
        let (secret, shown) = make(&who.name, node)?;
        inner.waiting.retain(|waiting| waiting.user != who.name);
        inner.waiting.push(Waiting { user: who.name.clone(), secret, before });
        Ok(shown)
    }

    pub fn finish_second_factor(&self, who: &Who, code: &str, now_ms: u64) -> Result<(), Refused> {
        let mut inner = self.acting(who, now_ms)?;
        inner.lock.may(Purpose::Code, &who.name, &who.from, now_ms)?;
        // One that has come meanwhile, on the other node or with a backup, was not proven.
        let now = inner.user(&who.name)?.second_factor.clone();
        let waiting = inner.waiting.iter().find(|waiting| waiting.user == who.name && waiting.before == now);
        let Some(secret) = waiting.map(|waiting| waiting.secret.clone()) else {
            return Err(refused(FailureKind::NotFound, "no second factor waits for a code"));
        };
        let Some(taken) = step(&secret, code, now_ms, 0) else {
            inner.lock.failed(Purpose::Code, &who.name, &who.from, now_ms);
            return Err(refused(FailureKind::Invalid, "the code is wrong; is the clock of the phone right?"));
        };
        let before = inner.stored.clone();
        let user = inner.user(&who.name)?;
        user.second_factor = Some(secret);
        user.last_step = taken;
        inner.save_people(before)?;
        inner.waiting.retain(|waiting| waiting.user != who.name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once() {
        // RFC 6238, appendix B: the secret "12345678901234567890" and 59 s give 94287082.
        let secret = Secret::from(&b"12345678901234567890"[..]).to_base32();
        let check = |code, now_ms, last, expect| assert_eq!(step(&secret, code, now_ms, last), expect);
        check("287082", 59_000, 0, Some(1));
        check("287 082", 59_000, 0, Some(1));
        check("287082", 59_000, 1, None);
        check("287082", 89_000, 0, Some(1));
        check("287082", 159_000, 0, None);
        check("28708", 59_000, 0, None);
        check("2870822", 59_000, 0, None);
        check("", 59_000, 0, None);
        let (secret, shown) = make("o'brien\"<", "lb 1").unwrap();
        assert!(shown.url.contains(&secret) && !shown.url.contains(['<', '"', ' ', '\'']), "{}", shown.url);
        assert!(shown.picture.starts_with("<svg"));
    }
}
