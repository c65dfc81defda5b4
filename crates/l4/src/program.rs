//! The XDP program in the kernel: loaded anew, or taken over from the process before.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{
    MapCore, MapHandle, Object, ObjectBuilder, OpenObject, Program, ProgramInput, TC_EGRESS, TcHook,
    TcHookBuilder, Xdp, XdpFlags,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::plane::Options;
use crate::shared::{AdoptedClient, Adoption, Cutting, Flow, Gate, Renewal, Setup, Sweeping, WAYS};

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/evenkeel.o"));
const PROGRAM: &str = "evenkeel_l4";
const PROBES: &str = "probe_out";
/// Handle and priority of the filter, so that a next process replaces it.
const FILTER: (u32, u32) = (0x454b, 17_739);

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "the XDP program cannot be loaded: {0}; it needs root (CAP_BPF, CAP_NET_ADMIN) and Linux 5.17 or later"
    )]
    Load(#[source] libbpf_rs::Error),
    #[error("the XDP program cannot be attached to {interface}: {why}")]
    Attach { interface: u32, why: libbpf_rs::Error },
    #[error("layer 4's maps: {0}")]
    Map(#[from] libbpf_rs::Error),
    #[error("the XDP program lacks {0}, which this version of Evenkeel needs")]
    Missing(&'static str),
}

/// How long later fragments follow the first.
pub(crate) const FRAGMENT_SECONDS: u64 = 30;

/// Sizes of the tables, in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub flows: u32,
    pub persistent: u32,
}

impl Sizes {
    fn flow_buckets(self) -> u32 {
        self.flows.div_ceil(WAYS).next_power_of_two().max(16)
    }

    fn persistence_buckets(self) -> u32 {
        self.persistent.div_ceil(WAYS).next_power_of_two().max(16)
    }
}

/// How a program sits on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// In the driver.
    Native,
    /// In the network stack, where the driver has no XDP: slower.
    Generic,
}

impl Attached {
    pub fn as_str(self) -> &'static str {
        match self {
            Attached::Native => "native",
            Attached::Generic => "generic",
        }
    }

    fn flags(self) -> XdpFlags {
        match self {
            Attached::Native => XdpFlags::DRV_MODE,
            Attached::Generic => XdpFlags::SKB_MODE,
        }
    }
}

/// The program of this process, with handles of its maps.
pub struct Loaded {
    object: Mutex<Object>,
    /// The program `renew` once more, over the same maps: whoever opens and closes the gate must not
    /// wait for a sweep.
    gate: Mutex<Object>,
    program: OwnedFd,
    pub setup: Setup,
    pub hertz: u64,
    /// Its tables held flows of an earlier process.
    pub adopted: bool,
}

/// Jiffies of one tick are a power of two that makes it about an eighth of a second.
pub(crate) fn tick_shift(jiffies_per_second: u64) -> u32 {
    (jiffies_per_second / 8).max(1).ilog2()
}

/// What the kernel was built with, where Debian's kernel packages write it down.
fn configured_hertz() -> Option<u64> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(format!("/boot/config-{release}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("CONFIG_HZ=")?.parse().ok())
}

impl Loaded {
    /// Loads the program. With a predecessor its maps are used on, with all that is in them.
    pub fn load(options: &Options, predecessor: Option<&Predecessor>) -> Result<Loaded, LoadError> {
        let (sizes, seed) = (options.sizes, options.seed);
        let known = predecessor.filter(|p| p.fits(sizes));
        let hertz = measure_hertz()?;
        let setup = match known {
            Some(known) => known.setup,
            None => Setup {
                seed_a: seed.0,
                seed_b: seed.1,
                flow_mask: sizes.flow_buckets() - 1,
                persistence_mask: sizes.persistence_buckets() - 1,
                tick_shift: tick_shift(hertz),
                fragment_ticks: ((hertz * FRAGMENT_SECONDS) >> tick_shift(hertz)) as u32,
                unused: 0,
                icmp_interval: (hertz * 1024).checked_div(u64::from(options.icmp_rate)).unwrap_or(0) as u32,
            },
        };
        let mut open = open(sizes, &setup).map_err(LoadError::Load)?;
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            let old = known.and_then(|k| k.maps.iter().find(|m| m.name() == map.name()));
            if let Some(old) = old.filter(|_| !name.starts_with('.') && !name.contains("rodata")) {
                map.reuse_fd(old.as_fd()).map_err(LoadError::Load)?;
            }
        }
        let object = open.load().map_err(LoadError::Load)?;
        let program = object.progs().find(|p| p.name() == PROGRAM);
        let program = program.ok_or(LoadError::Missing("its entry"))?.as_fd().try_clone_to_owned();
        let program = program.map_err(|_| LoadError::Missing("its descriptor"))?;
        let gate = Mutex::new(load_gate(&object, sizes, &setup)?);
        Ok(Loaded { object: Mutex::new(object), gate, program, setup, hertz, adopted: known.is_some() })
    }

    pub fn map(&self, name: &'static str) -> Result<MapHandle, LoadError> {
        let object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let map = object.maps().find(|m| m.name() == name).ok_or(LoadError::Missing(name))?;
        Ok(MapHandle::try_from(&map)?)
    }

    /// Puts the program on an interface, in place of the one that is there.
    pub fn attach(&self, interface: u32, how: Attached) -> Result<(), LoadError> {
        let failed = |why| LoadError::Attach { interface, why };
        Xdp::new(self.program.as_fd()).attach(interface as i32, how.flags()).map_err(failed)
    }

    pub fn detach(&self, interface: u32, how: Attached) {
        let xdp = Xdp::new(self.program.as_fd());
        // Only if it is still this program, not a successor's.
        let own = Program::id_from_fd(self.program.as_fd()).ok();
        if xdp.query_id(interface as i32, how.flags()).ok() == own {
            let _ = xdp.detach(interface as i32, how.flags());
        }
    }

    /// Puts the program that turns probes to the VIP on an interface's way out.
    pub fn attach_probes(&self, interface: u32) -> Result<(), LoadError> {
        let failed = |why| LoadError::Attach { interface, why };
        let object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let program = object.progs().find(|p| p.name() == PROBES).ok_or(LoadError::Missing(PROBES))?;
        let mut hook = probe_hook(&program, interface);
        hook.create().map_err(failed)?;
        hook.attach().map_err(failed).map(drop)
    }

    pub fn detach_probes(&self, interface: u32) {
        let object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = object.progs().find(|p| p.name() == PROBES) {
            let _ = probe_hook(&program, interface).detach();
        }
    }

    /// Prolongs the lease under which packets are forwarded, by none if by 0; the kernel's jiffies.
    pub fn renew(&self, jiffies: u64) -> Result<u64, LoadError> {
        let mut renewal = Renewal { lease_jiffies: jiffies, jiffies: 0 };
        self.call("renew", renewal.as_mut_bytes())?;
        Ok(renewal.jiffies)
    }

    /// The same for the gate, which waits for nobody.
    pub fn renew_gate(&self, jiffies: u64) -> Result<(), LoadError> {
        let mut renewal = Renewal { lease_jiffies: jiffies, jiffies: 0 };
        run(&self.gate, "renew", renewal.as_mut_bytes())
    }

    /// Removes flows that have ended from some buckets; how many live there, and how many ended.
    pub fn sweep(&self, from: u32, count: u32) -> Result<(u32, u32), LoadError> {
        let mut sweeping = Sweeping { from, count, live: 0, ended: 0 };
        self.call("sweep", sweeping.as_mut_bytes())?;
        Ok((sweeping.live, sweeping.ended))
    }

    /// Puts a flow of another node into the table; whether it is there now.
    pub(crate) fn adopt(&self, adoption: &mut Adoption) -> Result<bool, LoadError> {
        self.call("adopt", adoption.as_mut_bytes())?;
        Ok(adoption.adopted > 0)
    }

    /// Closes a flow; whether it counted as active.
    pub(crate) fn cut(&self, flow: &Flow) -> Result<bool, LoadError> {
        let mut cutting = Cutting {
            client: flow.client,
            vip: flow.vip,
            client_port_be: flow.client_port_be,
            vip_port_be: flow.vip_port_be,
            protocol: flow.protocol,
            cut: 0,
            unused: 0,
        };
        self.call("cut", cutting.as_mut_bytes())?;
        Ok(cutting.cut > 0)
    }

    pub(crate) fn adopt_client(&self, client: &mut AdoptedClient) -> Result<(), LoadError> {
        self.call("adopt_client", client.as_mut_bytes())
    }

    fn call(&self, name: &'static str, context: &mut [u8]) -> Result<(), LoadError> {
        run(&self.object, name, context)
    }

    /// Runs one frame through the program, as if it came in on an interface that exists.
    pub fn run_frame(&self, frame: &[u8], out: &mut [u8], repeat: u32) -> Result<Run, LoadError> {
        let object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let program = object.progs_mut().find(|p| p.name() == PROGRAM).ok_or(LoadError::Missing(PROGRAM))?;
        let output = program.test_run(ProgramInput {
            data_in: Some(frame),
            data_out: Some(out),
            repeat,
            ..ProgramInput::default()
        })?;
        let length = output.data.map_or(0, |d| d.len());
        Ok(Run { action: output.return_value, length, nanoseconds: output.duration.as_nanos() as u64 })
    }
}

fn run(object: &Mutex<Object>, name: &'static str, context: &mut [u8]) -> Result<(), LoadError> {
    let object = object.lock().unwrap_or_else(PoisonError::into_inner);
    let program = object.progs_mut().find(|p| p.name() == name).ok_or(LoadError::Missing(name))?;
    program.test_run(ProgramInput { context_in: Some(context), ..ProgramInput::default() })?;
    Ok(())
}

/// The program `renew` alone, over the maps of an object that is loaded.
fn load_gate(loaded: &Object, sizes: Sizes, setup: &Setup) -> Result<Object, LoadError> {
    let mut open = open(sizes, setup).map_err(LoadError::Load)?;
    for mut program in open.progs_mut() {
        if program.name() != "renew" {
            program.set_autoload(false);
        }
    }
    for mut map in open.maps_mut() {
        if let Some(known) = loaded.maps().find(|m| m.name() == map.name()) {
            map.reuse_fd(known.as_fd()).map_err(LoadError::Load)?;
        }
    }
    open.load().map_err(LoadError::Load)
}

fn probe_hook(program: &Program<'_>, interface: u32) -> TcHook {
    let mut builder = TcHookBuilder::new(program.as_fd());
    builder.ifindex(interface as i32).replace(true).handle(FILTER.0).priority(FILTER.1);
    builder.hook(TC_EGRESS)
}

#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub action: u32,
    pub length: usize,
    /// Of one run, averaged over the repeats.
    pub nanoseconds: u64,
}

fn open(sizes: Sizes, setup: &Setup) -> Result<OpenObject, libbpf_rs::Error> {
    let mut open = ObjectBuilder::default().name("evenkeel")?.open_memory(OBJECT)?;
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        match name.as_str() {
            "flows" => map.set_max_entries(sizes.flow_buckets())?,
            // Never full: see tables.h.
            "reverses" => map.set_max_entries(sizes.flow_buckets() * 2)?,
            "persistences" => map.set_max_entries(sizes.persistence_buckets())?,
            name if name.ends_with("rodata") => map.set_initial_value(setup.as_bytes())?,
            _ => {}
        }
    }
    Ok(open)
}

/// Counts the kernel's jiffies against the clock; their rate is one of a few.
fn measure_hertz() -> Result<u64, LoadError> {
    if let Some(configured) = configured_hertz() {
        return Ok(configured);
    }
    let tiny = Sizes { flows: 1, persistent: 1 };
    let mut setup = Setup::new_zeroed();
    setup.tick_shift = 1;
    let object = open(tiny, &setup).and_then(OpenObject::load).map_err(LoadError::Load)?;
    let renew = object.progs_mut().find(|p| p.name() == "renew").ok_or(LoadError::Missing("renew"))?;
    let read = || -> Result<(u64, std::time::Instant), LoadError> {
        let mut renewal = Renewal { lease_jiffies: 0, jiffies: 0 };
        let context = Some(renewal.as_mut_bytes());
        renew.test_run(ProgramInput { context_in: context, ..ProgramInput::default() })?;
        Ok((renewal.jiffies, std::time::Instant::now()))
    };
    let (first, start) = read()?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    let (last, end) = read()?;
    let measured = (last - first) as f64 / (end - start).as_secs_f64();
    let nearest = [100.0, 250.0, 300.0, 1000.0].into_iter();
    let nearest = nearest.min_by(|a, b| (a - measured).abs().total_cmp(&(b - measured).abs()));
    Ok(nearest.unwrap_or(250.0) as u64)
}

/// The interfaces that the program of an earlier process is on, and how.
pub fn left_on(interfaces: &[u32]) -> Vec<(u32, Attached)> {
    // Any descriptor will do for a query.
    let Ok(null) = std::fs::File::open("/dev/null") else { return Vec::new() };
    let xdp = Xdp::new(null.as_fd());
    let ways = |interface: &u32| [Attached::Native, Attached::Generic].map(|how| (*interface, how));
    interfaces.iter().flat_map(ways).filter(|(interface, how)| is_on(&xdp, *interface, *how)).collect()
}

/// Whether a program of this kind, whosever it is, is on an interface.
fn is_on(xdp: &Xdp<'_>, interface: u32, how: Attached) -> bool {
    let id = xdp.query_id(interface as i32, how.flags()).unwrap_or(0);
    id > 0 && name_of(id).as_deref() == Some(PROGRAM)
}

/// Takes programs of earlier processes off interfaces; `wanted` are those that this process uses.
/// Returns the interfaces that had one.
pub fn detach_leftovers(interfaces: &[u32], wanted: impl Fn(u32, Attached) -> bool) -> Vec<u32> {
    // Any descriptor will do.
    let Ok(null) = std::fs::File::open("/dev/null") else { return Vec::new() };
    let xdp = Xdp::new(null.as_fd());
    let mut had = Vec::new();
    for interface in interfaces {
        for how in [Attached::Native, Attached::Generic] {
            let is_left = !wanted(*interface, how) && is_on(&xdp, *interface, how);
            if is_left && xdp.detach(*interface as i32, how.flags()).is_ok() {
                had.push(*interface);
            }
        }
        if wanted(*interface, Attached::Native) || wanted(*interface, Attached::Generic) {
            continue;
        }
        let mut builder = TcHookBuilder::new(null.as_fd());
        builder.ifindex(*interface as i32).handle(FILTER.0).priority(FILTER.1);
        let mut hook = builder.hook(TC_EGRESS);
        if hook.query().is_ok_and(|id| name_of(id).as_deref() == Some(PROBES)) {
            let _ = hook.detach();
        }
    }
    had
}

fn name_of(program: u32) -> Option<String> {
    let info = ProgInfoIter::default().find(|p| p.id == program)?;
    Some(info.name.to_string_lossy().into_owned())
}

/// A program that an earlier process left on an interface, with its maps.
pub struct Predecessor {
    maps: Vec<MapHandle>,
    pub setup: Setup,
}

impl Predecessor {
    /// Looks at the interfaces for the program of an earlier process.
    pub fn find(interfaces: &[u32]) -> Option<Predecessor> {
        // Any descriptor will do for a query.
        let null = std::fs::File::open("/dev/null").ok()?;
        let xdp = Xdp::new(null.as_fd());
        let ids = interfaces.iter().flat_map(|interface| {
            let flags = [XdpFlags::DRV_MODE, XdpFlags::SKB_MODE];
            flags.map(|flags| xdp.query_id(*interface as i32, flags).unwrap_or(0))
        });
        ids.filter(|id| *id > 0).find_map(Predecessor::of_program)
    }

    fn of_program(id: u32) -> Option<Predecessor> {
        let options = ProgInfoQueryOptions::default().include_map_ids(true);
        let info = ProgInfoIter::with_query_opts(options).find(|p| p.id == id)?;
        if info.name.to_string_lossy() != PROGRAM {
            return None;
        }
        let maps: Vec<MapHandle> =
            info.map_ids.iter().filter_map(|id| MapHandle::from_map_id(*id).ok()).collect();
        let rodata = maps.iter().find(|m| m.name().to_string_lossy().ends_with("rodata"))?;
        let bytes = rodata.lookup(&0u32.to_ne_bytes(), libbpf_rs::MapFlags::ANY).ok()??;
        let setup = Setup::read_from_bytes(bytes.get(..size_of::<Setup>())?).ok()?;
        Some(Predecessor { maps, setup })
    }

    /// The same shapes and sizes: another version's would be nonsense.
    fn fits(&self, sizes: Sizes) -> bool {
        let setup = Setup { flow_mask: sizes.flow_buckets() - 1, ..self.setup };
        let setup = Setup { persistence_mask: sizes.persistence_buckets() - 1, ..setup };
        if setup != self.setup {
            return false;
        }
        let Ok(open) = open(sizes, &setup) else { return false };
        // That of probes belongs to another program, and is filled anew.
        let fits = open.maps().filter(|m| m.name() != "probes").all(|map| {
            let known = self.maps.iter().find(|m| m.name() == map.name());
            known.is_some_and(|k| {
                k.value_size() == map.value_size()
                    && k.key_size() == map.key_size()
                    && k.max_entries() == map.max_entries()
            })
        });
        fits && size_of::<Gate>() > 0
    }
}
