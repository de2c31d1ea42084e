//! The timer wheel: deadlines in slots of 10 ms, over seven levels of 64 slots. Pure: the time is
//! passed in, and expired values are returned.
//!
//! A slot of a level spans all 64 slots of the level below it. An entry is on the lowest level on
//! which its tick and the wheel's own differ, so that inserting and removing touch one list, and an
//! entry moves down at most six times before it expires (Varghese and Lauck, "Hashed and
//! Hierarchical Timing Wheels", scheme 7).

use std::time::{Duration, Instant};

/// The width of a slot: an entry expires at most this much after its deadline, and never before.
/// Time-outs here are 100 ms and more, pauses 2 ms and more.
pub(super) const SLOT: Duration = Duration::from_millis(10);
/// Bits of a tick that one level resolves.
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 7;
/// The last tick, 1,394 years after the first; later deadlines expire then.
const LAST_TICK: u64 = (1 << (BITS * LEVELS as u32)) - 1;
/// The index that means no entry.
const NONE: u32 = u32::MAX;

/// Deadlines, each with a `W` that is returned once it has passed.
#[derive(Debug)]
pub(super) struct Wheel<W> {
    /// The moment at which tick 0 began.
    origin: Instant,
    /// The last tick that has begun. All entries have later ones.
    tick: u64,
    levels: [Level; LEVELS],
    /// Used and free entries: as many as were ever used at once.
    entries: Vec<TimerEntry<W>>,
    /// The first free entry.
    free: u32,
    len: usize,
    next_id: u64,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// One bit a slot: set if it has entries.
    occupied: u64,
    /// The first entry of each slot.
    heads: [u32; SLOTS],
}

#[derive(Debug)]
struct TimerEntry<W> {
    /// The number of this use of the entry; a free or reused entry does not match an old key.
    id: u64,
    due: u64,
    level: u8,
    previous: u32,
    /// The next entry in the slot, or the next free one.
    next: u32,
    value: Option<W>,
}

/// Identifies an entry. After the entry has expired, the key matches none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    at: u32,
    id: u64,
}

impl<W> Wheel<W> {
    /// An empty wheel whose first slot begins at `now`.
    pub(super) fn new(now: Instant) -> Self {
        let level = Level { occupied: 0, heads: [NONE; SLOTS] };
        Self {
            origin: now,
            tick: 0,
            levels: [level; LEVELS],
            entries: Vec::new(),
            free: NONE,
            len: 0,
            next_id: 0,
        }
    }

    /// Keeps `value` until the deadline has passed.
    ///
    /// # Errors
    /// Returns `value` if the deadline has passed already, at the tick the wheel was advanced to.
    pub(super) fn insert(&mut self, deadline: Instant, value: W) -> Result<Key, W> {
        // Rounded up: an entry is never early.
        let after = deadline.saturating_duration_since(self.origin).as_nanos();
        let due = after.div_ceil(SLOT.as_nanos()).min(u128::from(LAST_TICK)) as u64;
        if due <= self.tick {
            return Err(value);
        }
        let id = self.next_id;
        self.next_id += 1;
        let entry =
            TimerEntry { id, due, level: 0, previous: NONE, next: NONE, value: Some(value) };
        let at = self.free;
        let at = match self.entries.get_mut(at as usize) {
            Some(place) => {
                self.free = place.next;
                *place = entry;
                at
            }
            None => {
                // A wheel cannot reach 2^32 entries: each belongs to a task of 100 bytes or more.
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.link(at);
        self.len += 1;
        Ok(Key { at, id })
    }

    /// The value of an entry that has neither expired nor been removed.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut W> {
        let entry = self.entries.get_mut(key.at as usize)?;
        entry.value.as_mut().filter(|_| entry.id == key.id)
    }

    /// Removes an entry before its deadline, and frees it.
    pub(super) fn remove(&mut self, key: Key) -> Option<W> {
        self.get_mut(key)?;
        self.unlink(key.at);
        self.release(key.at)
    }

    /// Moves the values of all entries whose deadlines have passed to `expired`, in the order of
    /// their slots.
    pub(super) fn advance(&mut self, now: Instant, expired: &mut Vec<W>) {
        let after = now.saturating_duration_since(self.origin).as_nanos();
        let target = (after / SLOT.as_nanos()).min(u128::from(LAST_TICK)) as u64;
        while let Some((level, slot, tick)) = self.next_slot()
            && tick <= target
        {
            self.tick = tick;
            let Level { occupied, heads } = &mut self.levels[level];
            *occupied &= !(1 << slot);
            let mut at = std::mem::replace(&mut heads[slot], NONE);
            while at != NONE {
                let entry = &self.entries[at as usize];
                let (next, due) = (entry.next, entry.due);
                if due <= tick {
                    expired.extend(self.release(at));
                } else {
                    // Moves the entry to a lower level.
                    self.link(at);
                }
                at = next;
            }
        }
        self.tick = self.tick.max(target);
    }

    /// The moment at which [`Self::advance`] has something to do next: the first occupied slot
    /// expires, or a slot of a higher level is spread over the level below. `None` if there is no
    /// entry.
    pub(super) fn next(&self) -> Option<Instant> {
        let (_, _, tick) = self.next_slot()?;
        let nanos = u128::from(tick) * SLOT.as_nanos();
        let second = 1_000_000_000;
        // Below 2^42 ticks of 10 ms both fit.
        let after = Duration::new((nanos / second) as u64, (nanos % second) as u32);
        self.origin.checked_add(after)
    }

    /// The number of entries that wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Level, slot and first tick of the earliest slot.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        if self.len == 0 {
            return None;
        }
        // All entries of a level come before those of the level above.
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        let slot = self.levels[level].occupied.trailing_zeros();
        let below = BITS * level as u32;
        let above = self.tick >> (below + BITS) << (below + BITS);
        Some((level, slot as usize, above | u64::from(slot) << below))
    }

    /// Puts an entry into the slot of its tick.
    fn link(&mut self, at: u32) {
        let entry = &mut self.entries[at as usize];
        // The highest bit in which the ticks differ determines the level.
        let differing = (entry.due ^ self.tick) | 1;
        let level = (differing.ilog2() / BITS) as usize;
        let slot = slot_of(entry.due, level);
        let Level { occupied, heads } = &mut self.levels[level];
        let next = std::mem::replace(&mut heads[slot], at);
        *occupied |= 1 << slot;
        (entry.level, entry.previous, entry.next) = (level as u8, NONE, next);
        if next != NONE {
            self.entries[next as usize].previous = at;
        }
    }

    fn unlink(&mut self, at: u32) {
        let TimerEntry { due, level, previous, next, .. } = self.entries[at as usize];
        let (level, slot) = (usize::from(level), slot_of(due, usize::from(level)));
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if previous != NONE {
            self.entries[previous as usize].next = next;
            return;
        }
        let Level { occupied, heads } = &mut self.levels[level];
        heads[slot] = next;
        if next == NONE {
            *occupied &= !(1 << slot);
        }
    }

    /// Frees an entry that is in no slot any more.
    fn release(&mut self, at: u32) -> Option<W> {
        let entry = &mut self.entries[at as usize];
        entry.next = std::mem::replace(&mut self.free, at);
        self.len -= 1;
        entry.value.take()
    }
}

fn slot_of(tick: u64, level: usize) -> usize {
    (tick >> (BITS * level as u32)) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;
    use proptest::prelude::*;

    fn advanced(wheel: &mut Wheel<u32>, now: Instant) -> Vec<u32> {
        let mut expired = Vec::new();
        wheel.advance(now, &mut expired);
        expired
    }

    #[test]
    fn an_entry_expires_with_the_slot_of_its_deadline() {
        let begun = clock::monotonic();
        let after = |micros| begun + Duration::from_micros(micros);
        // Deadline, the last microsecond before it expires, and the first after.
        let second = 1_000_000;
        for (deadline, not_yet, expired) in [
            (1, 9_999, 10_000),
            (10_000, 9_999, 10_000),
            (10_001, 19_999, 20_000),
            (630_000, 629_999, 630_000),
            (640_000, 639_999, 640_000),
            (640_001, 649_999, 650_000),
            (40_960_000, 40_959_999, 40_960_000),
            (10 * second, 10 * second - 1, 10 * second),
            (86_400 * second + 1, 86_400 * second + 9_999, 86_400 * second + 10_000),
            (u64::from(u32::MAX) * second, 4_294_967_294_999_999, 4_294_967_295_000_000),
        ] {
            let mut wheel = Wheel::new(begun);
            let key = wheel.insert(after(deadline), 7).unwrap();
            assert!(advanced(&mut wheel, after(not_yet)).is_empty(), "{deadline}");
            assert_eq!(wheel.get_mut(key), Some(&mut 7), "{deadline}");
            assert_eq!(advanced(&mut wheel, after(expired)), [7], "{deadline}");
            assert_eq!(wheel.get_mut(key), None);
            assert_eq!((wheel.remove(key), wheel.next()), (None, None));
        }
    }

    #[test]
    fn a_deadline_that_has_passed_is_returned() {
        let begun = clock::monotonic();
        let mut wheel = Wheel::new(begun);
        assert_eq!(wheel.insert(begun, 1), Err(1));
        assert!(wheel.insert(begun + Duration::from_nanos(1), 2).is_ok());
        assert_eq!(advanced(&mut wheel, begun + Duration::from_millis(35)), [2]);
        assert_eq!(wheel.insert(begun + Duration::from_millis(30), 3), Err(3));
        let key = wheel.insert(begun + Duration::from_millis(31), 4).unwrap();
        // A clock that goes backwards moves nothing.
        assert!(advanced(&mut wheel, begun).is_empty());
        assert_eq!(wheel.remove(key), Some(4));
    }

    #[test]
    fn deadlines_beyond_all_levels_wait_in_the_last_slot() {
        let begun = clock::monotonic();
        let mut wheel = Wheel::new(begun);
        let years = |years: u64| Duration::from_hours(years * 24 * 366);
        let Some(beyond) = begun.checked_add(years(5_000)) else { return };
        let key = wheel.insert(beyond, 1).unwrap();
        assert!(advanced(&mut wheel, begun + years(1_000)).is_empty());
        assert!(wheel.next().is_some_and(|next| next > begun + years(1_000)));
        assert_eq!(wheel.remove(key), Some(1));
    }

    #[test]
    fn the_next_moment_is_no_later_than_the_first_entry() {
        let begun = clock::monotonic();
        let after = |millis| begun + Duration::from_millis(millis);
        let mut wheel = Wheel::new(begun);
        assert_eq!(wheel.next(), None);
        let far = wheel.insert(after(10_000), 1).unwrap();
        // 10 s are 15 slots of 640 ms and 40 of 10 ms.
        assert_eq!(wheel.next(), Some(after(9_600)));
        let near = wheel.insert(after(35), 2).unwrap();
        assert_eq!(wheel.next(), Some(after(40)));
        wheel.remove(near);
        assert_eq!(wheel.next(), Some(after(9_600)));
        assert!(advanced(&mut wheel, after(9_600)).is_empty());
        assert_eq!(wheel.next(), Some(after(10_000)));
        wheel.remove(far);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn freed_entries_are_used_again_and_old_keys_match_none() {
        let begun = clock::monotonic();
        let mut wheel = Wheel::new(begun);
        let mut now = begun;
        let mut keys = Vec::new();
        for round in 0..1_000 {
            for each in 0..10 {
                let deadline = now + Duration::from_millis(10 + 70 * each);
                keys.push(wheel.insert(deadline, round).unwrap());
            }
            // Half of them are cancelled, the others expire.
            for key in keys.iter().skip(round as usize * 10 + 5).take(5) {
                assert_eq!(wheel.remove(*key), Some(round));
            }
            assert_eq!(wheel.len(), 5);
            now += Duration::from_secs(1);
            assert_eq!(advanced(&mut wheel, now), [round; 5]);
        }
        assert_eq!((wheel.len(), wheel.entries.len()), (0, 10), "as many as waited at once");
        wheel.insert(now + SLOT * 2, 1).unwrap();
        assert!(keys.iter().all(|key| wheel.get_mut(*key).is_none()));
        assert!(keys.iter().all(|key| wheel.remove(*key).is_none()));
        assert_eq!(wheel.len(), 1);
    }

    /// A step of the property test.
    #[derive(Clone, Debug)]
    enum Step {
        /// Inserts an entry due this many microseconds from now.
        Insert(u64),
        /// Removes an entry inserted earlier, expired or not.
        Remove(usize),
        /// Advances by this many microseconds.
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        // Spans of each level and the edges of slots.
        let span = prop_oneof![
            0_u64..30_000,
            0_u64..2_000_000,
            0_u64..100_000_000,
            0_u64..20_000_000_000_000,
            (0_u64..5_000).prop_map(|slots| slots * 10_000),
            (0_u64..300).prop_map(|slots| slots * 640_000),
        ];
        prop_oneof![
            4 => span.clone().prop_map(Step::Insert),
            2 => any::<usize>().prop_map(Step::Remove),
            3 => span.prop_map(Step::Advance),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        /// Compares the wheel with a list that is searched from end to end.
        #[test]
        fn a_wheel_equals_a_list_of_rounded_up_deadlines(
            steps in prop::collection::vec(step(), 1..120),
        ) {
            let begun = clock::monotonic();
            let mut wheel = Wheel::new(begun);
            let mut now = 0_u64;
            // Key, value and the microsecond at which it must expire.
            let mut waiting: Vec<(Key, u32, u64)> = Vec::new();
            let mut keys = Vec::new();
            let mut most = 0;
            for (value, step) in (0..).zip(steps) {
                match step {
                    Step::Insert(span) => {
                        let due = (now + span).div_ceil(10_000) * 10_000;
                        let deadline = begun + Duration::from_micros(now + span);
                        match wheel.insert(deadline, value) {
                            Ok(key) => {
                                prop_assert!(due > now / 10_000 * 10_000);
                                waiting.push((key, value, due));
                                keys.push(key);
                            }
                            Err(back) => prop_assert!(back == value && due <= now),
                        }
                    }
                    Step::Remove(which) if !keys.is_empty() => {
                        let key = keys[which % keys.len()];
                        let known = waiting.iter().position(|(known, ..)| *known == key);
                        let expected = known.map(|at| waiting.remove(at).1);
                        prop_assert_eq!(wheel.remove(key), expected);
                    }
                    Step::Remove(_) => {}
                    Step::Advance(span) => {
                        now += span;
                        let mut expired = Vec::new();
                        wheel.advance(begun + Duration::from_micros(now), &mut expired);
                        let mut over: Vec<_> =
                            waiting.extract_if(.., |(_, _, due)| *due <= now).collect();
                        over.sort_by_key(|(_, value, due)| (*due, *value));
                        let of = |value: &u32| over.iter().find(|(_, known, _)| known == value);
                        let dues: Vec<_> =
                            expired.iter().map(|value| of(value).map(|(.., due)| *due)).collect();
                        prop_assert!(dues.is_sorted(), "in the order of slots: {dues:?}");
                        expired.sort_unstable();
                        over.sort_by_key(|(_, value, _)| *value);
                        let over: Vec<_> = over.into_iter().map(|(_, value, _)| value).collect();
                        prop_assert_eq!(expired, over);
                    }
                }
                most = most.max(waiting.len());
                prop_assert_eq!(wheel.len(), waiting.len());
                prop_assert!(wheel.entries.len() <= most);
                for (key, value, _) in &waiting {
                    prop_assert_eq!(wheel.get_mut(*key).copied(), Some(*value));
                }
                let first = waiting.iter().map(|(.., due)| *due).min();
                let first = first.map(|due| begun + Duration::from_micros(due));
                prop_assert_eq!(wheel.next().is_some(), first.is_some());
                prop_assert!(wheel.next() <= first, "or it would be late");
                let passed = begun + Duration::from_micros(now);
                prop_assert!(wheel.next().is_none_or(|next| next > passed), "or it would spin");
            }
        }
    }
}
