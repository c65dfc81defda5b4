//! Programs to compare with: that do nothing, and that do look-ups alone.

use std::net::SocketAddr;

use libbpf_rs::{MapCore, MapFlags, Object, ObjectBuilder, ProgramInput};
use zerocopy::IntoBytes;

use crate::program::LoadError;
use crate::shared::{VipKey, words};

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/floor.o"));

pub struct Floor {
    object: Object,
}

impl Floor {
    pub fn load() -> Result<Floor, LoadError> {
        let mut builder = ObjectBuilder::default();
        let object = builder.open_memory(OBJECT).and_then(libbpf_rs::OpenObject::load);
        Ok(Floor { object: object.map_err(LoadError::Load)? })
    }

    /// An address that `floor_lookups` knows as a VIP.
    pub fn add_vip(&self, vip: SocketAddr) -> Result<(), LoadError> {
        let known = self.object.maps().find(|m| m.name() == "known").ok_or(LoadError::Missing("known"))?;
        let key = VipKey { address: words(vip.ip()), port_be: vip.port().to_be(), protocol: 6, unused: 0 };
        Ok(known.update(key.as_bytes(), &1u32.to_ne_bytes(), MapFlags::ANY)?)
    }

    /// Nanoseconds of one run of `floor_pass`, `floor_tx` or `floor_lookups`.
    pub fn run(&self, program: &str, frame: &[u8], out: &mut [u8]) -> Result<u64, LoadError> {
        let found =
            self.object.progs_mut().find(|p| p.name() == program).ok_or(LoadError::Missing("a floor"))?;
        let input =
            ProgramInput { data_in: Some(frame), data_out: Some(out), repeat: 1, ..ProgramInput::default() };
        Ok(found.test_run(input)?.duration.as_nanos() as u64)
    }
}
