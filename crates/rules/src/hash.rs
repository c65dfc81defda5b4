//! Hashes that spread texts over numbers: of zlib, Bernstein, sdbm, wt6 and xxHash.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// With its polynomial.
    Crc32(u32),
    Djb2,
    Sdbm,
    /// With its seed.
    Xxh32(u32),
    Xxh64(u64),
    Xxh3(u64),
    /// Two words that turn each other, a byte at a time.
    Wt6,
}

/// The number as a text; of 64 bits with a sign.
pub fn text(kind: Hash, mixed: bool, bytes: &[u8]) -> String {
    let number = match kind {
        Hash::Crc32(polynomial) => crc32(bytes, polynomial),
        Hash::Djb2 => bytes.iter().fold(5381u32, |h, b| h.wrapping_mul(33).wrapping_add(u32::from(*b))),
        Hash::Sdbm => bytes.iter().fold(0u32, |h, b| h.wrapping_mul(65_599).wrapping_add(u32::from(*b))),
        Hash::Xxh32(seed) => xxh32(bytes, seed),
        Hash::Wt6 => wt6(bytes),
        Hash::Xxh3(seed) => {
            return (xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed) as i64).to_string();
        }
        Hash::Xxh64(seed) => return (xxh64(bytes, seed) as i64).to_string(),
    };
    (if mixed { mix(number) } else { number }).to_string()
}

/// Of ISO 3309, as zlib has it, or with another polynomial.
fn crc32(bytes: &[u8], polynomial: u32) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (polynomial & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// The hash that HAProxy calls wt6. Each byte stirs both words; then each becomes the other one, turned by as
/// many bits as both have said the time before.
fn wt6(bytes: &[u8]) -> u32 {
    let (mut first, mut second) = (0xa53c_965a_u32, 0x5ca6_953a_u32);
    let (mut turn_second, mut turn_first) = (6, 18);
    for byte in bytes {
        let stirs = u32::from(*byte);
        let (stirred, added) = (!(first ^ stirs), !second.wrapping_add(stirs));
        (first, second) = (added.rotate_left(turn_second), stirred.rotate_left(turn_first));
        let both = (first >> 16 ^ second) & 0xffff;
        (turn_second, turn_first) = (both & 31, both >> 11);
    }
    first ^ second
}

/// Bob Jenkins' mix of 32 bits.
fn mix(number: u32) -> u32 {
    let mut a = number;
    a = a.wrapping_add(0x7ed5_5d16).wrapping_add(a << 12);
    a = a ^ 0xc761_c23c ^ (a >> 19);
    a = a.wrapping_add(0x1656_67b1).wrapping_add(a << 5);
    a = a.wrapping_add(0xd3a2_646c) ^ (a << 9);
    a = a.wrapping_add(0xfd70_46c5).wrapping_add(a << 3);
    // And a multiplication that spreads the lowest bits to the highest.
    (a ^ 0xb55a_4f09 ^ (a >> 16)).wrapping_mul(0xc000_0001)
}

const P32: [u32; 5] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f, 0x1656_67b1];
const P64: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn long(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// As the specification of xxHash says (version 0.1.1, section "XXH32").
fn xxh32(bytes: &[u8], seed: u32) -> u32 {
    let round = |lane: u32, word: u32| {
        lane.wrapping_add(word.wrapping_mul(P32[1])).rotate_left(13).wrapping_mul(P32[0])
    };
    let mut rest = bytes;
    let mut sum = if bytes.len() < 16 {
        seed.wrapping_add(P32[4])
    } else {
        let mut lanes = [
            seed.wrapping_add(P32[0]).wrapping_add(P32[1]),
            seed.wrapping_add(P32[1]),
            seed,
            seed.wrapping_sub(P32[0]),
        ];
        while let Some((stripe, after)) = rest.split_at_checked(16) {
            for (lane, part) in lanes.iter_mut().zip(stripe.chunks(4)) {
                *lane = round(*lane, word(part));
            }
            rest = after;
        }
        let turned = [1, 7, 12, 18].into_iter().zip(lanes).map(|(by, lane)| lane.rotate_left(by));
        turned.fold(0, u32::wrapping_add)
    };
    sum = sum.wrapping_add(bytes.len() as u32);
    while let Some((part, after)) = rest.split_at_checked(4) {
        sum = sum.wrapping_add(word(part).wrapping_mul(P32[2])).rotate_left(17).wrapping_mul(P32[3]);
        rest = after;
    }
    for byte in rest {
        sum = sum.wrapping_add(u32::from(*byte).wrapping_mul(P32[4])).rotate_left(11).wrapping_mul(P32[0]);
    }
    sum = (sum ^ sum >> 15).wrapping_mul(P32[1]);
    sum = (sum ^ sum >> 13).wrapping_mul(P32[2]);
    sum ^ sum >> 16
}

/// The same, section "XXH64".
fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    let round = |lane: u64, word: u64| {
        lane.wrapping_add(word.wrapping_mul(P64[1])).rotate_left(31).wrapping_mul(P64[0])
    };
    let mut rest = bytes;
    let mut sum = if bytes.len() < 32 {
        seed.wrapping_add(P64[4])
    } else {
        let mut lanes = [
            seed.wrapping_add(P64[0]).wrapping_add(P64[1]),
            seed.wrapping_add(P64[1]),
            seed,
            seed.wrapping_sub(P64[0]),
        ];
        while let Some((stripe, after)) = rest.split_at_checked(32) {
            for (lane, part) in lanes.iter_mut().zip(stripe.chunks(8)) {
                *lane = round(*lane, long(part));
            }
            rest = after;
        }
        let turned = [1, 7, 12, 18].into_iter().zip(lanes).map(|(by, lane)| lane.rotate_left(by));
        let whole = turned.fold(0, u64::wrapping_add);
        lanes
            .into_iter()
            .fold(whole, |sum, lane| (sum ^ round(0, lane)).wrapping_mul(P64[0]).wrapping_add(P64[3]))
    };
    sum = sum.wrapping_add(bytes.len() as u64);
    while let Some((part, after)) = rest.split_at_checked(8) {
        sum = (sum ^ round(0, long(part))).rotate_left(27).wrapping_mul(P64[0]).wrapping_add(P64[3]);
        rest = after;
    }
    if let Some((part, after)) = rest.split_at_checked(4) {
        sum = (sum ^ long(part).wrapping_mul(P64[0])).rotate_left(23);
        sum = sum.wrapping_mul(P64[1]).wrapping_add(P64[2]);
        rest = after;
    }
    for byte in rest {
        sum = (sum ^ u64::from(*byte).wrapping_mul(P64[4])).rotate_left(11).wrapping_mul(P64[0]);
    }
    sum = (sum ^ sum >> 33).wrapping_mul(P64[1]);
    sum = (sum ^ sum >> 29).wrapping_mul(P64[2]);
    sum ^ sum >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        // The check value of zlib, and of xxHash's own examples.
        assert_eq!(text(Hash::Crc32(0xedb8_8320), false, b"123456789"), "3421780262");
        assert_eq!(text(Hash::Djb2, false, b"a"), "177670");
        assert_eq!(text(Hash::Sdbm, false, b"ab"), (97u32 * 65_599 + 98).to_string());
        assert_eq!(text(Hash::Xxh3(0), false, b""), (0x2d06_8005_38d3_94c2_u64 as i64).to_string());
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(text(Hash::Wt6, false, &all), "4090277559");
        assert_eq!(text(Hash::Wt6, true, &all), "1192658767");
        assert_eq!(xxh32(b"", 0), 0x02cc_5d05);
        assert_eq!(xxh32(b"abc", 0), 0x32d1_53ff);
        assert_eq!(xxh32(b"Nobody inspects the spammish repetition", 0), 0xe229_3b2f);
        assert_eq!(xxh64(b"", 0), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"abc", 0), 0x44bc_2cf5_ad77_0999);
        assert_eq!(xxh64(b"Nobody inspects the spammish repetition", 0), 0xfbce_a83c_8a37_8bf1);
    }
}
