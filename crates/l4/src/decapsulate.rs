//! The program that a real server of mode "tun" runs on kernels without tunnel modules.

use std::net::IpAddr;
use std::os::fd::AsFd;

use libbpf_rs::{MapCore, MapFlags, ObjectBuilder, Xdp, XdpFlags};

use crate::program::LoadError;
use crate::shared::octets;

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/decapsulate.o"));

/// Opens the tunnels of a load balancer on one interface, for as long as nobody takes it away.
pub struct Decapsulator;

impl Decapsulator {
    /// Puts the program on an interface; only packets for one of the VIPs are opened.
    pub fn attach(interface: u32, vips: &[IpAddr]) -> Result<(), LoadError> {
        let mut builder = ObjectBuilder::default();
        let open = builder.open_memory(OBJECT).map_err(LoadError::Load)?;
        let object = open.load().map_err(LoadError::Load)?;
        let allowed = object.maps().find(|m| m.name() == "allowed").ok_or(LoadError::Missing("allowed"))?;
        for vip in vips {
            allowed.update(&octets(*vip), &1u32.to_ne_bytes(), MapFlags::ANY)?;
        }
        let program = object.progs().next().ok_or(LoadError::Missing("decapsulate"))?;
        let attach = Xdp::new(program.as_fd()).attach(interface as i32, XdpFlags::SKB_MODE);
        attach.map_err(|why| LoadError::Attach { interface, why })
    }

    pub fn is_attached(interface: u32) -> bool {
        let Ok(null) = std::fs::File::open("/dev/null") else { return false };
        let id = Xdp::new(null.as_fd()).query_id(interface as i32, XdpFlags::SKB_MODE).unwrap_or(0);
        let options = libbpf_rs::query::ProgInfoQueryOptions::default();
        let mut programs = libbpf_rs::query::ProgInfoIter::with_query_opts(options);
        id > 0 && programs.any(|p| p.id == id && p.name.to_string_lossy() == "decapsulate")
    }

    pub fn detach(interface: u32) -> Result<(), LoadError> {
        if !Decapsulator::is_attached(interface) {
            return Ok(());
        }
        let null = std::fs::File::open("/dev/null").map_err(|_| LoadError::Missing("/dev/null"))?;
        let detach = Xdp::new(null.as_fd()).detach(interface as i32, XdpFlags::SKB_MODE);
        detach.map_err(|why| LoadError::Attach { interface, why })
    }
}
