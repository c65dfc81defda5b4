//! The one-time code that a person carries from one node to the other.

use std::net::SocketAddr;

/// Where to connect, what proves that the caller was invited, and who must answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    pub address: SocketAddr,
    pub secret: [u8; 16],
    /// First half of the SHA-256 of the certificate.
    pub fingerprint: [u8; 16],
}

impl Code {
    pub fn parse(text: &str) -> Result<Code, &'static str> {
        let (address, digits) = text.trim().rsplit_once('/').ok_or("a code looks like ADDRESS:PORT/…")?;
        let address = address.parse().map_err(|_| "the code's address is not ADDRESS:PORT")?;
        let digits: String = digits.chars().filter(|c| *c != '-').collect();
        if digits.len() != 64 || !digits.is_ascii() {
            return Err("the code is not whole");
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16)
                .map_err(|_| "the code has a wrong letter")?;
        }
        let (mut secret, mut fingerprint) = ([0; 16], [0; 16]);
        secret.copy_from_slice(&bytes[..16]);
        fingerprint.copy_from_slice(&bytes[16..]);
        Ok(Code { address, secret, fingerprint })
    }
}

/// Without the secret: only whoever shows the code to a person writes all of it.
impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Code({})", self.address)
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/", self.address)?;
        for (at, byte) in self.secret.iter().chain(&self.fingerprint).enumerate() {
            let dash = if at > 0 && at % 8 == 0 { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_comes_back_as_it_was() {
        let code =
            Code { address: "10.0.0.1:9694".parse().unwrap(), secret: [7; 16], fingerprint: [0xab; 16] };
        assert_eq!(Code::parse(&code.to_string()), Ok(code.clone()));
        let v6 = Code { address: "[2001:db8::1]:9694".parse().unwrap(), ..code };
        assert_eq!(Code::parse(&format!(" {v6}\n")), Ok(v6.clone()));
        for wrong in ["", "10.0.0.1:9694", "10.0.0.1/07", "10.0.0.1:9694/0707"] {
            assert!(Code::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Code::parse(&v6.to_string().replace("ab", "xy")).is_err());
    }
}
