//! The program is run by a small interpreter and compared with plain Toeplitz.

use proptest::prelude::*;

use super::*;

/// Plain Toeplitz, bit by bit, with a 40-byte key.
fn toeplitz(input: &[u8]) -> u32 {
    let key: Vec<u8> = [0x6d, 0x5a].repeat(20);
    let bit = |bytes: &[u8], i: usize| u32::from(bytes[i / 8] >> (7 - i % 8) & 1);
    let mut hash = 0;
    for i in (0..input.len() * 8).filter(|i| bit(input, *i) == 1) {
        hash ^= (0..32).fold(0, |window, b| window << 1 | bit(&key, i + b));
    }
    hash
}

/// What the kernel does with a program. A load outside the frame ends it with 0.
fn run(program: &[sock_filter], protocol: u16, frame: &[u8]) -> u32 {
    let load = |at: u64, n: usize| -> Option<u32> {
        let bytes = frame.get(at as usize..at as usize + n)?;
        Some(bytes.iter().fold(0, |v, b| v << 8 | u32::from(*b)))
    };
    let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; 16]);
    let mut pc = 0;
    loop {
        let i = program[pc];
        pc += 1;
        let loaded = match i.code {
            LD_H_ABS if i.k == AD_PROTOCOL => Some(u32::from(protocol)),
            LD_W_ABS => load(i.k.into(), 4),
            LD_H_ABS => load(i.k.into(), 2),
            LD_B_ABS => load(i.k.into(), 1),
            LD_W_IND => load(u64::from(x) + u64::from(i.k), 4),
            LDX_MSH => load(i.k.into(), 1),
            _ => Some(0),
        };
        let Some(loaded) = loaded else { return 0 };
        match i.code {
            LD_W_ABS | LD_H_ABS | LD_B_ABS | LD_W_IND => a = loaded,
            LDX_MSH => x = (loaded & 15) * 4,
            LD_MEM => a = memory[i.k as usize],
            LDX_MEM => x = memory[i.k as usize],
            ST => memory[i.k as usize] = a,
            XOR_X => a ^= x,
            OR_X => a |= x,
            AND_K => a &= i.k,
            LSH_K => a <<= i.k,
            RSH_K => a >>= i.k,
            MUL_K => a = a.wrapping_mul(i.k),
            JEQ_K => pc += usize::from(if a == i.k { i.jt } else { i.jf }),
            JSET_K => pc += usize::from(if a & i.k != 0 { i.jt } else { i.jf }),
            JA => pc += i.k as usize,
            RET_K => return i.k,
            RET_A => return a,
            TAX => x = a,
            TXA => a = x,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn ipv4(src: [u8; 4], dst: [u8; 4], protocol: u8, options: usize, fragment: u16) -> Vec<u8> {
    let mut p = vec![0; 20 + options * 4];
    p[0] = 0x40 | (5 + options as u8);
    p[6..8].copy_from_slice(&fragment.to_be_bytes());
    p[9] = protocol;
    p[12..16].copy_from_slice(&src);
    p[16..20].copy_from_slice(&dst);
    p
}

proptest! {
    #[test]
    fn ipv4_with_ports(src: [u8; 4], dst: [u8; 4], ports: [u8; 4], options in 0usize..=10,
                       protocol in prop::sample::select(vec![6u8, 17, 132]), queues in 1u32..9) {
        let program = program();
        let mut packet = ipv4(src, dst, protocol, options, 0x4000);
        packet.extend_from_slice(&ports);
        let hash = run(&program, 0x0800, &packet);
        prop_assert_eq!(hash, toeplitz(&[&src[..], &dst, &ports].concat()));

        let mut back = ipv4(dst, src, protocol, 0, 0);
        back.extend_from_slice(&[ports[2], ports[3], ports[0], ports[1]]);
        prop_assert_eq!(run(&program, 0x0800, &back) % queues, hash % queues);
    }

    #[test]
    fn ipv4_without_ports(src: [u8; 4], dst: [u8; 4], fragment in 1u16..0x4000, protocol: u8) {
        let program = program();
        let addresses = toeplitz(&[src, dst].concat());
        let mut packet = ipv4(src, dst, 6, 0, fragment);
        packet.extend_from_slice(&[1; 8]);
        prop_assert_eq!(run(&program, 0x0800, &packet), addresses);
        if ![6, 17, 132].contains(&protocol) {
            prop_assert_eq!(run(&program, 0x0800, &ipv4(src, dst, protocol, 0, 0)), addresses);
        }
    }

    #[test]
    fn ipv6(addresses: [u8; 32], ports: [u8; 4], next: u8) {
        let mut packet = vec![0; 40];
        packet[6] = next;
        packet[8..].copy_from_slice(&addresses);
        packet.extend_from_slice(&ports);
        let with_ports = [&addresses[..], &ports].concat();
        let input = if [6, 17, 132].contains(&next) { &with_ports[..] } else { &addresses[..] };
        // The key is 40 bytes: enough for 36 bytes of input.
        prop_assert_eq!(run(&program(), 0x86dd, &packet), toeplitz(input));
    }

    #[test]
    fn anything_else_is_queue_0(protocol: u16, packet in prop::collection::vec(any::<u8>(), 0..64)) {
        let hash = run(&program(), protocol, &packet);
        if protocol != 0x0800 && protocol != 0x86dd {
            prop_assert_eq!(hash, 0);
        }
    }
}

#[test]
fn the_program_fits_the_kernels_limit() {
    let program = program();
    assert!(program.len() < 256, "{}", program.len());
}
