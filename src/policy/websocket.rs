//! Follows the frames of WebSocket (RFC 6455 section 5.2) far enough to find their ends: a control
//! frame may be sent between two frames, even within a fragmented message (section 5.4).

/// The maximum head of a frame: two bytes, a length of eight, a mask of four.
const MAX_HEAD: usize = 14;
/// A close frame's opcode.
const CLOSE: u8 = 0x8;
/// "An endpoint is going away" (section 7.4.1), which makes a client reconnect.
const GOING_AWAY: [u8; 2] = 1_001_u16.to_be_bytes();

/// The close frame of a server.
pub(crate) fn servers_close() -> [u8; 4] {
    let [high, low] = GOING_AWAY;
    [0x80 | CLOSE, 2, high, low]
}

/// The close frame of a client, with this mask (section 5.3).
pub(crate) fn clients_close(mask: [u8; 4]) -> [u8; 8] {
    let [high, low] = GOING_AWAY;
    [0x80 | CLOSE, 0x80 | 2, mask[0], mask[1], mask[2], mask[3], high ^ mask[0], low ^ mask[1]]
}

/// The position in a stream of frames.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Frames {
    head: [u8; MAX_HEAD],
    /// Bytes of the head received so far.
    seen: usize,
    /// Bytes of the payload still to come.
    rest: u64,
    has_closed: bool,
}

impl Frames {
    /// Processes the bytes that were forwarded.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let count = self.rest.min(bytes.len() as u64);
                self.rest -= count;
                // `count` is at most the length of the bytes.
                bytes = &bytes[usize::try_from(count).unwrap_or(bytes.len())..];
                continue;
            }
            self.head[self.seen] = bytes[0];
            self.seen += 1;
            bytes = &bytes[1..];
            if self.seen == self.head_length() {
                self.has_closed |= self.head[0] & 0xf == CLOSE;
                self.rest = self.payload_length();
                self.seen = 0;
            }
        }
    }

    /// Bytes still missing of the current frame, as far as known; 0 between two frames.
    pub(crate) fn missing(&self) -> u64 {
        match self.seen {
            0 => self.rest,
            seen => (self.head_length() - seen) as u64,
        }
    }

    /// True if a close frame was forwarded, after which no frame may follow (section 5.5.1).
    pub(crate) fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// The length of the head, as far as its received bytes determine it.
    fn head_length(&self) -> usize {
        if self.seen < 2 {
            return 2;
        }
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        2 + self.extended() + mask
    }

    /// Bytes of the extended length field.
    fn extended(&self) -> usize {
        match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn payload_length(&self) -> u64 {
        match self.extended() {
            0 => u64::from(self.head[1] & 0x7f),
            count => {
                self.head[2..2 + count].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(opcode: u8, length: usize, form: u8, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match (form, length) {
            (0, ..126) => frame.push(mask | length as u8),
            (0 | 1, ..65_536) => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(vec![7; if masked { 4 } else { 0 }]);
        frame.extend(vec![0x88; length]);
        frame
    }

    proptest! {
        #[test]
        fn the_ends_of_frames_are_found_in_any_division_of_the_bytes(
            frames in proptest::collection::vec(
                (0_u8..3, prop_oneof![0_usize..300, 65_000_usize..66_000], 0_u8..3, any::<bool>()),
                1..8,
            ),
            cuts in proptest::collection::vec(1_usize..70_000, 1..40),
        ) {
            let frames: Vec<_> = frames
                .iter()
                .map(|&(opcode, length, form, masked)| frame(opcode, length, form, masked))
                .collect();
            let ends: Vec<usize> = frames
                .iter()
                .scan(0, |at, frame| { *at += frame.len(); Some(*at) })
                .collect();
            let bytes = frames.concat();
            let (mut known, mut at) = (Frames::default(), 0);
            for cut in cuts.iter().cycle() {
                let end = bytes.len().min(at + cut);
                known.pass(&bytes[at..end]);
                at = end;
                let is_end = ends.contains(&at);
                prop_assert_eq!(known.missing() == 0, is_end, "at {} of {:?}", at, &ends);
                // Never beyond the end of the frame.
                let next = ends.iter().find(|end| **end >= at).copied().unwrap_or(at);
                prop_assert!(known.missing() <= (next - at) as u64);
                if at == bytes.len() {
                    break;
                }
            }
            prop_assert!(!known.has_closed());
        }
    }

    #[test]
    fn close_frames_are_whole_frames_with_code_1001() {
        let mask = [1, 2, 3, 4];
        for close in [&servers_close()[..], &clients_close(mask)] {
            let mut frames = Frames::default();
            frames.pass(close);
            assert!(frames.has_closed() && frames.missing() == 0);
        }
        let masked = clients_close(mask);
        assert_eq!([masked[6] ^ 1, masked[7] ^ 2], 1_001_u16.to_be_bytes());
        assert_eq!(servers_close()[2..], 1_001_u16.to_be_bytes());
    }
}
