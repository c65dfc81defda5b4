//! `evenkeel upgrade`: a signed bundle becomes the program that runs, or the appliance's next system. Everything
//! is checked before anything changes.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use clap::Args;
use evenkeel_api as api;
use evenkeel_upgrade::{Boot, Bundle, PartKind, is_newer, write_partition};

use super::client::Client;
use super::live::{print_json, say};
use super::upgrade_pair::PairUpgrade;
use super::{Common, Exit, Failure, Outcome};

/// How long the new program may take to run.
const TAKE_OVER: Duration = Duration::from_secs(90);
/// How long the package's own scripts may take to have it started.
const BY_ITSELF: Duration = Duration::from_secs(10);
/// How long a new system may take to be well.
const COME_UP: Duration = Duration::from_secs(300);

#[derive(Args, Debug)]
pub struct UpgradeArguments {
    /// The bundle
    #[arg(required_unless_present_any = ["keep", "helper"])]
    pub file: Option<PathBuf>,
    /// Check it, say what would be done, and change nothing
    #[arg(long)]
    pub check: bool,
    /// Take a version that is not newer
    #[arg(long)]
    pub older: bool,
    /// Of a pair: do not look at the other node
    #[arg(long)]
    pub alone: bool,
    /// Both nodes of a pair, one after the other: the bundle is sent to the other one
    #[arg(long, conflicts_with_all = ["alone", "check", "reboot"])]
    pub pair: bool,
    /// Where a new system is written: restart the machine into it at once
    #[arg(long)]
    pub reboot: bool,
    /// Public keys (*.pub, in minisign's format) that bundles are signed with
    #[arg(long, env = "EVENKEEL_UPGRADE_KEYS", default_value = KEYS, value_name = "FOLDER")]
    pub keys: PathBuf,
    /// Of the appliance, at a start: keep the new system if this node is well within five minutes
    #[arg(long, conflicts_with_all = ["file", "check", "older", "alone", "pair", "reboot"])]
    pub keep: bool,
    /// Install what the other node of a pair has sent, for a daemon that is not root: a line and the bundle come on
    /// standard input
    #[arg(long, hide = true)]
    pub helper: bool,
    /// With --helper, where who asks is not root: nothing that is older than the package that is installed
    #[arg(long, hide = true, requires = "helper")]
    pub only_newer: bool,
    #[arg(long, hide = true, default_value = GRUBENV)]
    pub grubenv: PathBuf,
}

const KEYS: &str = "/etc/evenkeel-upgrade-keys";
const GRUBENV: &str = "/boot/efi/grub/grubenv";

impl UpgradeArguments {
    /// Of a bundle that the other node of a pair has sent, which looks after the rest. A new system is tried at once.
    pub fn of_peer(file: PathBuf, older: bool) -> UpgradeArguments {
        UpgradeArguments {
            file: Some(file),
            check: false,
            older,
            alone: true,
            pair: false,
            reboot: true,
            keys: std::env::var_os("EVENKEEL_UPGRADE_KEYS").map_or_else(|| KEYS.into(), PathBuf::from),
            keep: false,
            helper: false,
            only_newer: false,
            grubenv: GRUBENV.into(),
        }
    }
}

pub fn failed(why: impl Into<String>) -> Failure {
    Failure::new(Exit::Failed, why)
}

/// `a` or `b`, where this machine is the appliance.
fn running_system() -> Option<String> {
    let line = std::fs::read_to_string("/proc/cmdline").ok()?;
    let label = line.split_whitespace().find_map(|word| word.strip_prefix("root=LABEL=evenkeel-"))?;
    Some(label.to_owned())
}

fn output(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let run = Command::new(program).args(arguments).output();
    let run = run.map_err(|e| failed(format!("{program} cannot be run: {e}")))?;
    let text = String::from_utf8_lossy(&run.stdout).trim().to_owned();
    match run.status.success() {
        true => Ok(text),
        false => {
            let said = String::from_utf8_lossy(&run.stderr).trim().replace('\n', "; ");
            Err(failed(format!("{program} failed: {said}")))
        }
    }
}

pub fn run(common: &Common, arguments: &UpgradeArguments) -> Outcome {
    if arguments.helper {
        return super::upgrade_pair::helper(common.json, arguments.only_newer);
    }
    let Some(file) = &arguments.file else { return keep(common, &arguments.grubenv) };
    let mut bundle = Bundle::open(file, &arguments.keys).map_err(failed)?;
    let version = bundle.manifest.version.clone();
    let architecture = output("dpkg", &["--print-architecture"])?;
    if bundle.manifest.architecture != architecture {
        let theirs = &bundle.manifest.architecture;
        return Err(failed(format!("the bundle is for {theirs}, and this machine is {architecture}")));
    }
    if arguments.only_newer {
        // Not what a daemon says of itself.
        let installed = output("dpkg-query", &["-W", "-f", "${Version}", "evenkeel"])?;
        if !is_newer(&version, &installed) {
            return Err(failed(format!(
                "{version} is not newer than {installed}, which is installed; root may take it at this node: evenkeel upgrade --older --alone"
            )));
        }
    }
    let client = Client::new(&common.socket);
    let status: api::Status = client.get("/api/v1/status")?;
    // Of a pair a node that has it already is passed over.
    let has_it = arguments.pair && version == status.version;
    if !arguments.older && !has_it && !is_newer(&version, &status.version) {
        let runs = &status.version;
        return Err(failed(format!(
            "{version} is not newer than {runs}, which runs; --older takes it all the same"
        )));
    }
    let system = running_system().filter(|_| bundle.part(PartKind::System).is_some());
    if system.is_none() && bundle.part(PartKind::Package).is_none() {
        return Err(failed("the bundle has a system for the appliance only, and this machine is none"));
    }
    if arguments.check {
        let what = match &system {
            Some(_) => "it is written to the other system partition, and tried at the next start",
            None => "its package is installed, and the new program takes over; connections are kept",
        };
        return told(common, &bundle, &format!("version {version}, signed by {}: {what}", bundle.signed_by));
    }
    if arguments.pair {
        let alone = UpgradeArguments {
            older: arguments.older,
            keys: arguments.keys.clone(),
            ..UpgradeArguments::of_peer(file.clone(), false)
        };
        let install_here = || run(common, &alone);
        let done = PairUpgrade {
            client,
            file,
            version: &version,
            older: arguments.older,
            install_here: &install_here,
        }
        .run()?;
        return told(common, &bundle, &done);
    }
    if !arguments.alone {
        take_turns(&client, &version)?;
    }
    match system {
        Some(running) => write_system(&mut bundle, &running, arguments),
        None => install(&client, &mut bundle),
    }?;
    let done = format!("this node runs {version}");
    let next =
        format!("{version} is written; it is tried at the next start, and left again if it does not come up");
    told(
        common,
        &bundle,
        if running_system().is_some() && bundle.part(PartKind::System).is_some() { &next } else { &done },
    )
}

fn told(common: &Common, bundle: &Bundle, text: &str) -> Outcome {
    match common.json {
        true => print_json(&serde_json::json!({
            "version": bundle.manifest.version, "signed-by": bundle.signed_by, "detail": text
        })),
        false => say(text),
    }
}

/// Of a pair the passive node comes first; then the active one gives its part to it.
fn take_turns(client: &Client<'_>, version: &str) -> Outcome {
    let Ok(pair) = client.get::<api::Pair>("/api/v1/pair") else { return Ok(()) };
    if pair.role != "active" || !pair.paired {
        return Ok(());
    }
    let link = pair.link.filter(|link| link.connected);
    let other = link.and_then(|link| link.peer_version);
    match other.as_deref() {
        Some(other) if other == version => {
            let done: api::SwitchedOver = client.post("/api/v1/pair/switch-over", &())?;
            say(&format!("{} is active now", done.active))
        }
        Some(other) => Err(failed(format!(
            "this node is active and the other one runs {other}: upgrade the other one first, then this one; --alone does not look"
        ))),
        None => Err(failed(
            "this node is active and the other one is not heard: nobody would serve if this went wrong; --alone does it all the same",
        )),
    }
}

/// How many folders this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A folder that nobody else can write to, and that goes with its handle.
pub struct Private(PathBuf);

impl Private {
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn make() -> Result<Private, Failure> {
        let name = format!("evenkeel-upgrade-{}-{}", std::process::id(), MADE.fetch_add(1, Relaxed));
        let folder = std::env::temp_dir().join(name);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|e| failed(format!("{}: {e}", folder.display())))?;
        Ok(Private(folder))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn install(client: &Client<'_>, bundle: &mut Bundle) -> Outcome {
    let folder = Private::make()?;
    let package = folder.0.join("evenkeel.deb");
    let mut file = std::fs::File::create(&package)?;
    bundle.copy(PartKind::Package, &mut file).map_err(failed)?;
    file.sync_all()?;
    drop(file);
    let path = package.to_string_lossy();
    let manifest = &bundle.manifest;
    for (field, expect) in
        [("Package", "evenkeel"), ("Version", &manifest.version), ("Architecture", &manifest.architecture)]
    {
        let found = output("dpkg-deb", &["-f", &path, field])?;
        if found != expect {
            return Err(failed(format!(
                "the package in it has the {field} {found:?}, not {expect:?}; nothing is changed"
            )));
        }
    }
    let started = Instant::now();
    // Files of the configuration stay as they are.
    output("dpkg", &["--force-confold", "-i", &path])?;
    if !taken_over(client, &manifest.version, started, BY_ITSELF) {
        let what = serde_json::json!({ "part": "program" });
        let _: api::Restarting = client.post("/api/v1/restart", &what)?;
    }
    match taken_over(client, &manifest.version, started, TAKE_OVER) {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::TimedOut,
            format!(
                "the package is installed, but {} does not run within {} s; the program before goes on: its log says why",
                manifest.version,
                TAKE_OVER.as_secs()
            ),
        )),
    }
}

/// Whether a program that was started since then answers, and is of this version.
fn taken_over(client: &Client<'_>, version: &str, since: Instant, limit: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        let status = client.get::<api::Status>("/api/v1/status");
        let new = |s: &api::Status| s.version == version && s.uptime_seconds <= since.elapsed().as_secs();
        if status.is_ok_and(|s| new(&s)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    false
}

fn write_system(bundle: &mut Bundle, running: &str, arguments: &UpgradeArguments) -> Outcome {
    let mut boot = Boot::read(&arguments.grubenv).map_err(failed)?;
    let other = if running == "a" { "b" } else { "a" };
    if boot.system() != running {
        let why =
            format!("system {running} runs, but {} is the one that starts: restart first", boot.system());
        return Err(failed(why));
    }
    let number = if other == "a" { 3 } else { 4 };
    // The image's own partitions: their numbers in the table never change.
    let partition = format!("/dev/disk/by-partuuid/4576656e-6b65-656c-0000-00000000001{number}");
    if std::fs::read_to_string("/proc/mounts").unwrap_or_default().lines().any(|line| {
        let device = line.split(' ').next().unwrap_or("");
        std::fs::canonicalize(&partition).is_ok_and(|there| Path::new(device) == there)
    }) {
        return Err(failed(format!("the other system ({partition}) is mounted: umount it first")));
    }
    boot.try_none().map_err(failed)?;
    write_partition(bundle, Path::new(&partition)).map_err(failed)?;
    output("e2label", &[&partition, &format!("evenkeel-{other}")])?;
    boot.try_other().map_err(failed)?;
    if arguments.reboot {
        output("systemctl", &["reboot"])?;
    }
    Ok(())
}

/// At a start of the appliance: the new system is kept, or left.
fn keep(common: &Common, grubenv: &Path) -> Outcome {
    let Some(running) = running_system() else {
        return Err(failed("this machine is no appliance: there is no other system"));
    };
    let mut boot = Boot::read(grubenv).map_err(failed)?;
    let Some(next) = boot.next().map(str::to_owned) else { return Ok(()) };
    if next != running {
        boot.keep(&running).map_err(failed)?;
        return say(&format!("system {next} did not come up; system {running} runs, and starts from now on"));
    }
    let begun = Instant::now();
    let client = Client::new(&common.socket);
    while begun.elapsed() < COME_UP {
        if client.get::<api::Status>("/api/v1/status").is_ok() {
            boot.keep(&running).map_err(failed)?;
            return say(&format!("system {running} is well, and starts from now on"));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    // The boot menu has used up its one try: the former system starts.
    output("systemctl", &["reboot"])?;
    Err(failed(format!("system {running} did not come up; the former one is started")))
}
