//! Lists through numbered slots: every slot is in exactly one of `N` lists, and goes to the end of
//! another in constant time.
//!
//! What waits here waits by state, and a state has one timeout. So a slot that joins a list joins it
//! behind all that are due before it: the first of each list is the next one due, and nothing has to be
//! sorted or searched, however many slots there are.

/// No slot.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
    list: u32,
}

#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
    len: u32,
}

/// `N` lists over the slots `0..slots`.
#[derive(Debug)]
pub(crate) struct Lists<const N: usize> {
    links: Box<[Link]>,
    lists: [List; N],
}

impl<const N: usize> Lists<N> {
    /// All slots are in list 0, in their order.
    pub(crate) fn new(slots: u32) -> Self {
        let empty = List {
            first: NONE,
            last: NONE,
            len: 0,
        };
        let apart = Link {
            before: NONE,
            after: NONE,
            list: 0,
        };
        let mut this = Self {
            links: vec![apart; slots as usize].into(),
            lists: [empty; N],
        };
        (0..slots).for_each(|slot| this.append(slot, 0));
        this
    }

    /// Moves a slot to the end of a list; it may be the one that it is in.
    pub(crate) fn move_to(&mut self, slot: u32, list: usize) {
        self.remove(slot);
        self.append(slot, list);
    }

    /// The slot that has been in this list for longest.
    #[inline]
    pub(crate) fn first(&self, list: usize) -> Option<u32> {
        let first = self.lists[list].first;
        (first != NONE).then_some(first)
    }

    /// Which list a slot is in.
    #[inline]
    pub(crate) fn list_of(&self, slot: u32) -> usize {
        self.links[slot as usize].list as usize
    }

    /// How many slots a list has.
    #[inline]
    pub(crate) fn len(&self, list: usize) -> usize {
        self.lists[list].len as usize
    }

    /// The slots of a list, the longest in it first.
    pub(crate) fn iter(&self, list: usize) -> impl Iterator<Item = u32> {
        std::iter::successors(self.first(list), |slot| {
            let after = self.links[*slot as usize].after;
            (after != NONE).then_some(after)
        })
    }

    fn remove(&mut self, slot: u32) {
        let Link {
            before,
            after,
            list,
        } = self.links[slot as usize];
        let ends = &mut self.lists[list as usize];
        ends.len -= 1;
        match before {
            NONE => ends.first = after,
            _ => self.links[before as usize].after = after,
        }
        match after {
            NONE => ends.last = before,
            _ => self.links[after as usize].before = before,
        }
    }

    fn append(&mut self, slot: u32, list: usize) {
        let ends = &mut self.lists[list];
        let before = ends.last;
        (ends.last, ends.len) = (slot, ends.len + 1);
        match before {
            NONE => ends.first = slot,
            _ => self.links[before as usize].after = slot,
        }
        self.links[slot as usize] = Link {
            before,
            after: NONE,
            list: list as u32,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn equals_queues(moves in proptest::collection::vec((0u32..8, 0usize..3), 0..200)) {
            let mut lists = Lists::<3>::new(8);
            let mut plain = [(0..8).collect(), VecDeque::new(), VecDeque::new()];
            for (slot, list) in moves {
                lists.move_to(slot, list);
                plain.iter_mut().for_each(|queue| queue.retain(|s| *s != slot));
                plain[list].push_back(slot);
                prop_assert_eq!(lists.list_of(slot), list);
            }
            for (list, queue) in plain.iter().enumerate() {
                prop_assert_eq!(lists.len(list), queue.len());
                prop_assert_eq!(lists.first(list), queue.front().copied());
                prop_assert!(lists.iter(list).eq(queue.iter().copied()));
            }
        }
    }
}
