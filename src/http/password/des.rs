//! The oldest crypt(3): DES (FIPS 46-3) run 25 times, with a salt that swaps bits of its expansion.
//!
//! Bits are bools here, numbered from the left as the standard does; nothing about it needs to be fast.

use super::{DIGITS, digits};

type Bits<const N: usize> = [bool; N];

/// What the first eight characters of `password` become with the salt that `stored` begins with; `None` where that is
/// none.
pub fn crypt(password: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
    let salt = stored.get(..2)?;
    let mut swaps = [false; 24];
    for (letter, swaps) in salt.iter().zip(swaps.chunks_mut(6)) {
        let value = DIGITS.iter().position(|digit| digit == letter)?;
        for (bit, swap) in swaps.iter_mut().enumerate() {
            *swap = value >> bit & 1 == 1;
        }
    }
    let mut key = [false; 64];
    for (byte, bits) in password.iter().zip(key.chunks_mut(8)) {
        for (at, bit) in bits.iter_mut().take(7).enumerate() {
            *bit = byte >> (6 - at) & 1 == 1;
        }
    }
    let keys = schedule(&key);
    let block = (0..25).fold([false; 64], |block, _| encrypt(&block, &keys, &swaps));
    let mut out = salt.to_vec();
    for chunk in block.chunks(6) {
        let value = (0..6).fold(0, |value, at| value << 1 | u32::from(chunk.get(at) == Some(&true)));
        digits(value, 1, &mut out);
    }
    Some(out)
}

fn permute<const N: usize>(bits: &[bool], table: &[u8; N]) -> Bits<N> {
    table.map(|at| bits.get(usize::from(at) - 1).copied().unwrap_or_default())
}

fn schedule(key: &Bits<64>) -> Vec<Bits<48>> {
    let chosen = permute(key, &KEY_FIRST);
    let (mut left, mut right) = split(&chosen);
    let rounds = SHIFTS.iter().map(|&shift| {
        left.rotate_left(shift);
        right.rotate_left(shift);
        permute(&[left.as_slice(), &right].concat(), &KEY_SECOND)
    });
    rounds.collect()
}

fn encrypt(block: &Bits<64>, keys: &[Bits<48>], swaps: &Bits<24>) -> Bits<64> {
    let (mut left, mut right) = split(&permute(block, &FIRST));
    for key in keys {
        let mut wide: Bits<48> = permute(&right, &EXPAND);
        let (front, back) = wide.split_at_mut(24);
        for ((a, b), swap) in front.iter_mut().zip(back).zip(swaps) {
            if *swap {
                std::mem::swap(a, b);
            }
        }
        let mut narrow = Vec::with_capacity(32);
        for ((bits, key), table) in wide.chunks(6).zip(key.chunks(6)).zip(&SUBSTITUTE) {
            let six = bits.iter().zip(key).fold(0usize, |six, (a, b)| six << 1 | usize::from(a ^ b));
            let (row, column) = ((six >> 4 & 2) | (six & 1), six >> 1 & 15);
            let four = table.get(row * 16 + column).copied().unwrap_or_default();
            narrow.extend((0..4).map(|at| four >> (3 - at) & 1 == 1));
        }
        let mixed: Bits<32> = permute(&narrow, &MIX);
        let next: Vec<bool> = left.iter().zip(mixed).map(|(a, b)| a ^ b).collect();
        left = std::mem::replace(&mut right, next);
    }
    permute(&[right, left].concat(), &LAST)
}

fn split(bits: &[bool]) -> (Vec<bool>, Vec<bool>) {
    let (left, right) = bits.split_at(bits.len() / 2);
    (left.to_vec(), right.to_vec())
}

const SHIFTS: [usize; 16] = [1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1];

/// IP.
const FIRST: [u8; 64] = [
    58, 50, 42, 34, 26, 18, 10, 2, 60, 52, 44, 36, 28, 20, 12, 4, 62, 54, 46, 38, 30, 22, 14, 6, 64, 56, 48, 40, 32,
    24, 16, 8, 57, 49, 41, 33, 25, 17, 9, 1, 59, 51, 43, 35, 27, 19, 11, 3, 61, 53, 45, 37, 29, 21, 13, 5, 63, 55, 47,
    39, 31, 23, 15, 7,
];

/// The inverse of IP.
const LAST: [u8; 64] = [
    40, 8, 48, 16, 56, 24, 64, 32, 39, 7, 47, 15, 55, 23, 63, 31, 38, 6, 46, 14, 54, 22, 62, 30, 37, 5, 45, 13, 53, 21,
    61, 29, 36, 4, 44, 12, 52, 20, 60, 28, 35, 3, 43, 11, 51, 19, 59, 27, 34, 2, 42, 10, 50, 18, 58, 26, 33, 1, 41, 9,
    49, 17, 57, 25,
];

/// E.
const EXPAND: [u8; 48] = [
    32, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 8, 9, 10, 11, 12, 13, 12, 13, 14, 15, 16, 17, 16, 17, 18, 19, 20, 21, 20, 21,
    22, 23, 24, 25, 24, 25, 26, 27, 28, 29, 28, 29, 30, 31, 32, 1,
];

/// P.
const MIX: [u8; 32] = [
    16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4,
    25,
];

/// PC-1.
const KEY_FIRST: [u8; 56] = [
    57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36, 63, 55,
    47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4,
];

/// PC-2.
const KEY_SECOND: [u8; 48] = [
    14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2, 41, 52, 31, 37, 47, 55, 30,
    40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
];

/// S1 to S8, row by row.
const SUBSTITUTE: [[u8; 64]; 8] = [
    [
        14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7, 0, 15, 7, 4, 14, 2, 13, 1, 10, 6, 12, 11, 9, 5, 3, 8, 4,
        1, 14, 8, 13, 6, 2, 11, 15, 12, 9, 7, 3, 10, 5, 0, 15, 12, 8, 2, 4, 9, 1, 7, 5, 11, 3, 14, 10, 0, 6, 13,
    ],
    [
        15, 1, 8, 14, 6, 11, 3, 4, 9, 7, 2, 13, 12, 0, 5, 10, 3, 13, 4, 7, 15, 2, 8, 14, 12, 0, 1, 10, 6, 9, 11, 5, 0,
        14, 7, 11, 10, 4, 13, 1, 5, 8, 12, 6, 9, 3, 2, 15, 13, 8, 10, 1, 3, 15, 4, 2, 11, 6, 7, 12, 0, 5, 14, 9,
    ],
    [
        10, 0, 9, 14, 6, 3, 15, 5, 1, 13, 12, 7, 11, 4, 2, 8, 13, 7, 0, 9, 3, 4, 6, 10, 2, 8, 5, 14, 12, 11, 15, 1, 13,
        6, 4, 9, 8, 15, 3, 0, 11, 1, 2, 12, 5, 10, 14, 7, 1, 10, 13, 0, 6, 9, 8, 7, 4, 15, 14, 3, 11, 5, 2, 12,
    ],
    [
        7, 13, 14, 3, 0, 6, 9, 10, 1, 2, 8, 5, 11, 12, 4, 15, 13, 8, 11, 5, 6, 15, 0, 3, 4, 7, 2, 12, 1, 10, 14, 9, 10,
        6, 9, 0, 12, 11, 7, 13, 15, 1, 3, 14, 5, 2, 8, 4, 3, 15, 0, 6, 10, 1, 13, 8, 9, 4, 5, 11, 12, 7, 2, 14,
    ],
    [
        2, 12, 4, 1, 7, 10, 11, 6, 8, 5, 3, 15, 13, 0, 14, 9, 14, 11, 2, 12, 4, 7, 13, 1, 5, 0, 15, 10, 3, 9, 8, 6, 4,
        2, 1, 11, 10, 13, 7, 8, 15, 9, 12, 5, 6, 3, 0, 14, 11, 8, 12, 7, 1, 14, 2, 13, 6, 15, 0, 9, 10, 4, 5, 3,
    ],
    [
        12, 1, 10, 15, 9, 2, 6, 8, 0, 13, 3, 4, 14, 7, 5, 11, 10, 15, 4, 2, 7, 12, 9, 5, 6, 1, 13, 14, 0, 11, 3, 8, 9,
        14, 15, 5, 2, 8, 12, 3, 7, 0, 4, 10, 1, 13, 11, 6, 4, 3, 2, 12, 9, 5, 15, 10, 11, 14, 1, 7, 6, 0, 8, 13,
    ],
    [
        4, 11, 2, 14, 15, 0, 8, 13, 3, 12, 9, 7, 5, 10, 6, 1, 13, 0, 11, 7, 4, 9, 1, 10, 14, 3, 5, 12, 2, 15, 8, 6, 1,
        4, 11, 13, 12, 3, 7, 14, 10, 15, 6, 8, 0, 5, 9, 2, 6, 11, 13, 8, 1, 4, 10, 7, 9, 5, 0, 15, 14, 2, 3, 12,
    ],
    [
        13, 2, 8, 4, 6, 15, 11, 1, 10, 9, 3, 14, 5, 0, 12, 7, 1, 15, 13, 8, 10, 3, 7, 4, 12, 5, 6, 11, 0, 14, 9, 2, 7,
        11, 4, 1, 9, 12, 14, 2, 0, 6, 10, 13, 15, 3, 5, 8, 2, 1, 14, 7, 4, 10, 8, 13, 15, 12, 9, 0, 3, 5, 6, 11,
    ],
];
