//! Where a test runs: a folder and a loopback address that no other test uses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

static COUNT: AtomicU16 = AtomicU16::new(0);

pub struct Place {
    folder: PathBuf,
    address: Ipv4Addr,
}

impl Place {
    /// The process number and a count make the address unique.
    pub fn new(test: &str) -> Place {
        raise_file_limit();
        let process = std::process::id();
        let folder = std::env::temp_dir().join(format!("evenkeel-test-{test}-{process}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        // Mixed, so that neighbouring numbers do not share an address.
        let count = u64::from(COUNT.fetch_add(1, Ordering::Relaxed));
        let mixed = (u64::from(process) << 16 | count).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let [a, b, c, ..] = mixed.to_be_bytes();
        let address = Ipv4Addr::new(127, 1 + a % 254, b, 1 + c % 254);
        Place { folder, address }
    }

    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), port)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a folder");
        }
        std::fs::write(&path, content).expect("a file");
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Thousands of connections need more descriptors than a shell gives.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Waits until something holds; fails the test with what it was about when it never does.
pub fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    assert!(within(limit, &mut holds), "not within {limit:?}: {what}");
}

/// Whether something comes to hold in time.
pub fn within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !holds() {
        if started.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Programs that a test needs. Where one is missing the test says so and is counted as skipped
/// by the reader of the output; in CI it fails.
pub fn require(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|p| !crate::has_program(p)).collect();
    if missing.is_empty() {
        return true;
    }
    skip(&format!("{missing:?}"));
    false
}

/// Says that a test is skipped for want of something; in CI that fails.
pub fn skip(missing: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI must have {missing}");
    note_skip(missing);
}

/// The same of what no package brings, in CI as well: it is printed and counted.
pub fn note_skip(missing: &str) {
    println!("SKIPPED: needs {missing}");
    if let Some(list) = std::env::var_os("EVENKEEL_SKIPS") {
        use std::io::Write;
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        let file = std::fs::OpenOptions::new().create(true).append(true).open(list);
        let _ = file.and_then(|mut f| writeln!(f, "{name}: needs {missing}"));
    }
}
