//! GRUB's environment block: 1024 bytes of `name=value`, which the boot menu reads and writes.

const SIZE: usize = 1024;
const HEAD: &str = "# GRUB Environment Block\n";

/// Values in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrubEnvironment(Vec<(String, String)>);

impl GrubEnvironment {
    pub fn parse(bytes: &[u8]) -> Result<GrubEnvironment, String> {
        let text = std::str::from_utf8(bytes).ok().and_then(|text| text.strip_prefix(HEAD));
        let Some(text) = text.filter(|_| bytes.len() == SIZE) else {
            return Err("is no environment block of GRUB".into());
        };
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.split_once('='));
        Ok(GrubEnvironment(pairs.map(|(name, value)| (name.into(), value.into())).collect()))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Values of the boot menu's own: plain words.
    pub fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.0.push((name.into(), value.into()));
    }

    pub fn unset(&mut self, name: &str) {
        self.0.retain(|(n, _)| n != name);
    }

    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        let mut text = HEAD.to_owned();
        self.0.iter().for_each(|(name, value)| text.push_str(&format!("{name}={value}\n")));
        if text.len() > SIZE {
            return Err("has no room for what is to be written".into());
        }
        text.push_str(&"#".repeat(SIZE - text.len()));
        Ok(text.into_bytes())
    }
}
