//! Sends frames of many clients out of an interface as a driver would: for measurements and tests.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapFlags, Object, ObjectBuilder, ProgramInput};
use zerocopy::{FromZeros, IntoBytes};

use crate::program::LoadError;
use crate::shared::{PLANNED, Plan};

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/generator.o"));

/// BPF_F_TEST_XDP_LIVE_FRAMES: what the program returns is done with the frame.
const LIVE_FRAMES: u32 = 2;
/// Of one call; the clock is looked at between calls.
const AT_ONCE: u32 = 16_384;
/// Bytes of a frame in front of which nothing of IPv4's or its transport's headers may be missing.
const FRAME: usize = PLANNED as usize;

pub struct Generator {
    object: Object,
}

impl Generator {
    pub fn load() -> Result<Generator, LoadError> {
        let mut builder = ObjectBuilder::default();
        let object = builder.open_memory(OBJECT).and_then(libbpf_rs::OpenObject::load);
        Ok(Generator { object: object.map_err(LoadError::Load)? })
    }

    /// Sends frames like this one (Ethernet, plain IPv4, UDP without a checksum or a first segment of
    /// TCP with one option) from so many addresses and ports, at random with `None`, until the time
    /// is over or so many are sent; how many were.
    pub fn send(
        &self,
        interface: u32,
        frame: &[u8],
        first_client: Ipv4Addr,
        flows: Option<u32>,
        until: (Duration, u64),
    ) -> Result<u64, LoadError> {
        let missing = || LoadError::Missing("the generator");
        let mut plan = Plan::new_zeroed();
        plan.frame.copy_from_slice(frame.get(..FRAME).ok_or(LoadError::Missing("60 bytes of a frame"))?);
        plan.first_client = first_client.to_bits();
        plan.flows = flows.unwrap_or(0);
        let plans = self.object.maps().find(|m| m.name() == "plans").ok_or_else(missing)?;
        plans.update(&0u32.to_ne_bytes(), plan.as_bytes(), MapFlags::ANY)?;
        let program = self.object.progs_mut().find(|p| p.name() == "generate").ok_or_else(missing)?;
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < until.0 && sent < until.1 {
            // struct xdp_md: where the frame begins and ends, nothing before it, the interface.
            let words = [0, frame.len() as u32, 0, interface, 0, 0];
            let mut context = words.as_bytes().to_vec();
            let repeat = AT_ONCE.min((until.1 - sent).min(u64::from(AT_ONCE)) as u32);
            program.test_run(ProgramInput {
                context_in: Some(&mut context),
                data_in: Some(frame),
                flags: LIVE_FRAMES,
                repeat,
                ..ProgramInput::default()
            })?;
            sent += u64::from(repeat);
        }
        Ok(sent)
    }
}
