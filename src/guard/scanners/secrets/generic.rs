//! Values that no vendor's shape proves: whether they are secrets is judged by their name and their
//! looks.

use super::allow;
use super::assignment::{Assignment, Operator};
use super::names::Class;
use super::proof;

/// Whether people put `byte` into passwords and hardly into words.
fn is_symbol(byte: &u8) -> bool {
    matches!(
        byte,
        b'!' | b'@'
            | b'#'
            | b'$'
            | b'%'
            | b'^'
            | b'&'
            | b'*'
            | b'+'
            | b'='
            | b'~'
            | b'?'
            | b'|'
            | b'/'
            | b'\\'
    )
}

/// Whether `value`, assigned as `assignment` says to a name of `class`, is a secret.
pub(super) fn secret(assignment: &Assignment, value: &[u8], class: Class) -> bool {
    let likely = match class {
        Class::Password => password(assignment, value),
        Class::Key => key(value, assignment, 8, 2.8) && looks_random(value),
        Class::Weak => {
            !allow::digest(value) && key(value, assignment, 16, 3.5) && looks_random(value) && varied(value)
        }
    };
    likely
        && !value.iter().any(u8::is_ascii_control)
        && !allow::code(value, assignment.quoted)
        && !allow::filler(value)
}

fn password(assignment: &Assignment, value: &[u8]) -> bool {
    if value.len() < 4 || value.len() > 200 || is_sentence(value) {
        return false;
    }
    let letters = value.iter().filter(|byte| byte.is_ascii_alphabetic() || **byte >= 0x80).count();
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let symbols = value.iter().filter(|byte| is_symbol(byte)).count();
    let blend = digits > 0 && (letters > 0 || symbols > 0) || symbols > 0 && letters > 2;
    match assignment.operator {
        Operator::Sign | Operator::Colon if assignment.quoted => blend || digits >= 4 || word(value),
        Operator::Sign if assignment.tight => blend || digits >= 4 || (word(value) && !value.contains(&b'_')),
        Operator::Tag | Operator::Flag => blend || digits >= 4 || (assignment.quoted && word(value)),
        Operator::Beside => blend && letters > 0 && value.len() >= 6,
        Operator::Colon if assignment.line && value.len() >= 6 && letters == value.len() => true,
        Operator::Sign | Operator::Colon => {
            digits > 0 && (letters > 1 || symbols > 0) || (symbols > 0 && letters > 2)
        }
        Operator::Prose => {
            value.len() >= 5 && digits > 0 && (letters > 1 || symbols > 0) || symbols > 0 && letters > 3
        }
    }
}

/// Whether `value` is the next name with its operator rather than a value.
pub(super) fn is_name(value: &[u8]) -> bool {
    matches!(value.last(), Some(b'=' | b':')) && !value.iter().any(u8::is_ascii_digit)
}

/// One word, as a careless password.
fn word(value: &[u8]) -> bool {
    value.len() >= 5
        && value.len() <= 40
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// Words with blanks between them that hold nothing but letters.
fn is_sentence(value: &[u8]) -> bool {
    let blanks = value.iter().filter(|byte| **byte == b' ').count();
    let odd = value.iter().filter(|byte| byte.is_ascii_digit() || b"@#$^&*~".contains(byte)).count();
    blanks > 0 && odd < 2 || blanks > 5
}

/// Something that a machine made: long enough, of one piece, with digits and letters and much entropy.
fn key(value: &[u8], assignment: &Assignment, shortest: usize, entropy: f32) -> bool {
    let piece = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.+/=~:@!#$%^&*|".contains(byte);
    let shortest = if assignment.operator == Operator::Prose { shortest.max(12) } else { shortest };
    value.len() >= shortest && value.iter().all(piece) && proof::entropy(value) >= entropy
}

/// Whether `value` is rather drawn than named: digits amid letters, many changes of class.
fn looks_random(value: &[u8]) -> bool {
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = value.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    if allow::uuid(value) {
        return true;
    }
    if digits == 0 || letters == 0 {
        let capitals = value
            .windows(2)
            .filter(|pair| matches!(pair, [a, b] if a.is_ascii_lowercase() != b.is_ascii_lowercase()));
        return value.len() >= 20
            && digits == 0
            && !value.contains(&b'_')
            && capitals.count() * 5 >= value.len() * 2;
    }
    let share = changes(value) * 100 / value.len();
    if digits >= 2 && value.len() >= 16 { share >= 18 } else { share >= 25 && digits >= 2 }
}

fn varied(value: &[u8]) -> bool {
    let upper = value.iter().filter(|byte| byte.is_ascii_uppercase()).count();
    let lower = value.iter().filter(|byte| byte.is_ascii_lowercase()).count();
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    digits >= 2 && (upper >= 2 && lower >= 2 || value.len() >= 24)
}

/// Places where the class of characters changes.
fn changes(value: &[u8]) -> usize {
    let class = |byte: u8| match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    value.windows(2).filter(|pair| matches!(pair, [a, b] if class(*a) != class(*b))).count()
}
