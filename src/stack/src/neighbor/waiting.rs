//! The few packets that wait for a neighbour's address.

use linecard_hal::Mbuf;

/// How many packets can wait for one neighbour.
pub const MOST_WAITING: usize = 4;

/// Packets that wait, or waited, for one neighbour; as an iterator, the oldest first. They lie in the
/// entry itself: nothing is allocated.
#[derive(Debug, Default)]
pub struct Waiting {
    packets: [Option<Mbuf>; MOST_WAITING],
    len: u8,
}

impl Waiting {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len.into()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Mbuf> {
        let oldest = self.packets[0].take()?;
        self.packets.rotate_left(1);
        self.len -= 1;
        Some(oldest)
    }

    /// Adds the newest. `false` if there is no room: it is then freed.
    pub(super) fn push(&mut self, packet: Mbuf) -> bool {
        match self.packets.get_mut(usize::from(self.len)) {
            Some(place) => {
                *place = Some(packet);
                self.len += 1;
                true
            }
            None => false,
        }
    }
}

impl Iterator for Waiting {
    type Item = Mbuf;

    fn next(&mut self) -> Option<Mbuf> {
        self.pop()
    }
}
