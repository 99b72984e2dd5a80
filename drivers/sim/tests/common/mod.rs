//! What the tests of ports share: a port that runs, frames with a number in them, and pools that must
//! be whole at the end.
#![allow(dead_code)]

use linecard_hal::{Burst, Mbuf, Mempool, MempoolConfig, Port, PortConfig, QueuePair};

pub(crate) fn pool(name: &str, size: usize) -> Mempool {
    Mempool::new(MempoolConfig {
        cache: 0,
        ..MempoolConfig::new(name, size)
    })
    .unwrap()
}

/// Every mbuf is home, by both books.
#[track_caller]
pub(crate) fn assert_whole(pool: &Mempool) {
    assert_eq!(pool.in_use(), 0, "{pool:?}");
    assert_eq!(pool.leaks(), []);
}

/// Configures and starts a port with one pool for all queues.
#[track_caller]
pub(crate) fn start(port: &mut dyn Port, pool: &Mempool, queues: u16) -> Vec<QueuePair> {
    let config = PortConfig {
        queues,
        index: 9,
        offloads: linecard_hal::Offloads::all(),
        ..PortConfig::default()
    };
    port.configure(&config).unwrap();
    port.start(&vec![pool.clone(); usize::from(queues)])
        .unwrap()
}

/// A frame of `len` bytes whose first four are `number` and whose others follow from it. A frame longer
/// than the pool's buffers is a chain.
pub(crate) fn numbered(pool: &Mempool, number: u32, len: usize) -> Option<Mbuf> {
    let bytes: Vec<u8> = number
        .to_be_bytes()
        .into_iter()
        .chain((4..len).map(|i| (i as u32 ^ number) as u8))
        .collect();
    from_bytes(pool, &bytes[..len])
}

pub(crate) fn from_bytes(pool: &Mempool, bytes: &[u8]) -> Option<Mbuf> {
    let mut mbuf: Option<Mbuf> = None;
    for part in bytes.chunks(usize::from(pool.config().data_room)) {
        let mut next = pool.alloc()?;
        next.append(part.len())?.copy_from_slice(part);
        match &mut mbuf {
            None => mbuf = Some(next),
            Some(head) => head.chain(next).ok()?,
        }
    }
    mbuf
}

pub(crate) fn bytes(mbuf: &Mbuf) -> Vec<u8> {
    mbuf.segments().flatten().copied().collect()
}

/// The number of a frame that [`numbered`] made, if its bytes are as they were.
pub(crate) fn number(mbuf: &Mbuf) -> Option<u32> {
    let bytes = bytes(mbuf);
    let number = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    let intact = (4..bytes.len()).all(|i| bytes[i] == (i as u32 ^ number) as u8);
    intact.then_some(number)
}

/// Sends one frame.
pub(crate) fn send(queue: &mut QueuePair, mbuf: Mbuf) -> bool {
    let mut burst = Burst::with_capacity(1);
    burst.push(mbuf).unwrap();
    queue.tx.transmit(&mut burst) == 1
}

/// Everything that is there, in order.
pub(crate) fn receive_all(queue: &mut QueuePair) -> Vec<Mbuf> {
    let (mut burst, mut all) = (Burst::with_capacity(32), Vec::new());
    while queue.rx.receive(&mut burst) > 0 {
        all.extend(burst.drain());
    }
    all
}

/// A UDP frame of flow `flow`.
pub(crate) fn udp(pool: &Mempool, flow: u16, reply: bool) -> Mbuf {
    let mut frame = [0u8; 60];
    frame[12] = 8;
    frame[14..34].copy_from_slice(&[
        0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    frame[34..36].copy_from_slice(&flow.to_be_bytes());
    frame[36..38].copy_from_slice(&53u16.to_be_bytes());
    frame[39] = 26;
    if reply {
        let (a, b): ([u8; 4], [u8; 4]) = (
            frame[26..30].try_into().unwrap(),
            frame[30..34].try_into().unwrap(),
        );
        frame[26..30].copy_from_slice(&b);
        frame[30..34].copy_from_slice(&a);
        frame.copy_within(36..38, 34);
        frame[36..38].copy_from_slice(&flow.to_be_bytes());
    }
    from_bytes(pool, &frame).unwrap()
}
