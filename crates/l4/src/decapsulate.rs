//! The program that a real server of mode "tun" runs on kernels without tunnel modules.

use std::net::IpAddr;
use std::os::fd::AsFd;

use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{MapCore, MapFlags, MapHandle, ObjectBuilder, Xdp, XdpFlags};

use crate::program::LoadError;
use crate::shared::{address_of, octets};

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/decapsulate.o"));

/// Opens the tunnels of a load balancer on one interface, for as long as nobody takes it away.
pub struct Decapsulator {
    allowed: MapHandle,
}

impl Decapsulator {
    /// The one that is on an interface.
    pub fn on(interface: u32) -> Option<Decapsulator> {
        let null = std::fs::File::open("/dev/null").ok()?;
        let id = Xdp::new(null.as_fd()).query_id(interface as i32, XdpFlags::SKB_MODE).ok()?;
        let options = ProgInfoQueryOptions::default().include_map_ids(true);
        let program = ProgInfoIter::with_query_opts(options)
            .find(|p| p.id == id && p.name.to_string_lossy() == "decapsulate")?;
        let mut maps = program.map_ids.iter().filter_map(|id| MapHandle::from_map_id(*id).ok());
        maps.find(|map| map.name() == "allowed").map(|allowed| Decapsulator { allowed })
    }

    /// Opens packets for these VIPs on an interface from now on, beside those it knows.
    pub fn open(interface: u32, vips: &[IpAddr]) -> Result<(), LoadError> {
        if let Some(known) = Decapsulator::on(interface) {
            return known.allow(vips);
        }
        let mut builder = ObjectBuilder::default();
        let open = builder.open_memory(OBJECT).map_err(LoadError::Load)?;
        let object = open.load().map_err(LoadError::Load)?;
        let allowed = object.maps().find(|m| m.name() == "allowed").ok_or(LoadError::Missing("allowed"))?;
        Decapsulator { allowed: MapHandle::try_from(&allowed)? }.allow(vips)?;
        let program = object.progs().next().ok_or(LoadError::Missing("decapsulate"))?;
        let attach = Xdp::new(program.as_fd()).attach(interface as i32, XdpFlags::SKB_MODE);
        attach.map_err(|why| LoadError::Attach { interface, why })
    }

    fn allow(&self, vips: &[IpAddr]) -> Result<(), LoadError> {
        for vip in vips {
            self.allowed.update(&octets(*vip), &1u32.to_ne_bytes(), MapFlags::ANY)?;
        }
        Ok(())
    }

    /// The VIPs for which packets are opened.
    pub fn vips(&self) -> Vec<IpAddr> {
        let keys = self.allowed.keys().filter_map(|key| <[u8; 16]>::try_from(key).ok());
        keys.map(address_of).collect()
    }

    /// Opens no more packets for these; without any left it goes.
    pub fn close(self, interface: u32, vips: &[IpAddr]) -> Result<(), LoadError> {
        for vip in self.vips().iter().filter(|known| vips.contains(known)) {
            self.allowed.delete(&octets(*vip))?;
        }
        if !self.vips().is_empty() {
            return Ok(());
        }
        let null = std::fs::File::open("/dev/null").map_err(|_| LoadError::Missing("/dev/null"))?;
        let detach = Xdp::new(null.as_fd()).detach(interface as i32, XdpFlags::SKB_MODE);
        detach.map_err(|why| LoadError::Attach { interface, why })
    }
}
