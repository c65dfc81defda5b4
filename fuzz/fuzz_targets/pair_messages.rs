//! Any bytes as what one node gets from another: adverts, sealed messages, beats, flows, codes. And
//! whatever beats say, the election keeps what it must.
#![no_main]

use evenkeel_vrrp::beat::Beat;
use evenkeel_vrrp::election::{Election, Settings};
use evenkeel_vrrp::seal::{Conversation, Keys};
use evenkeel_vrrp::witness::{Answer, Ask};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for (source, target) in [("10.0.0.1", "224.0.0.18"), ("fe80::1", "ff02::12")] {
        let (source, target) = (source.parse().unwrap(), target.parse().unwrap());
        let _ = evenkeel_vrrp::advert::parse(bytes, source, target, 255, None);
    }
    let mut conversation = Conversation::new(Keys::new(&[[1; 32]]), 7, 0);
    assert!(conversation.open(bytes, |_, _| true).is_err(), "nobody has the key");
    let _ = (Ask::parse(bytes), evenkeel_l4::Batch::parse(bytes));
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(code) = evenkeel_peer::Code::parse(text)
    {
        assert_eq!(evenkeel_peer::Code::parse(&code.to_string()), Ok(code));
    }
    let settings = Settings {
        node: 1,
        priority: 100,
        every_ms: 50,
        dead_ms: 150,
        join_ms: 300,
        failback: bytes.first().is_some_and(|b| b & 1 > 0),
        takes_over_alone: true,
        witness_lease_ms: bytes.first().and_then(|b| (b & 2 > 0).then_some(200)),
    };
    let mut election = Election::new(settings, 0);
    let mut now = 0;
    for (number, chunk) in bytes.chunks(Beat::LEN).enumerate() {
        now += u64::from(chunk[0]);
        election.tick(now);
        if let Some(mut beat) = Beat::parse(chunk) {
            // Within a life numbers only go up.
            beat.number = number as u64 + 1;
            election.receive(beat, chunk[0] > 250, now);
        }
        if let Some(answer) = Answer::parse(chunk) {
            election.hear_witness(&answer, now);
        }
        let _ = (election.poll_beat(number as u64 + 1, 1, 1, now), election.poll_ask(now), election.next_at(now));
        election.check_invariants(now);
    }
});
