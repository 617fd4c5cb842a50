//! Phrases that are looked for where the operator names none.

/// The test string that virus scanners agree on.
const EICAR: &str = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";

/// Requests for malware, test strings of virus and spam scanners: for what people ask.
pub(super) const INPUT: [&str; 22] = [
    EICAR,
    "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X",
    "write malware",
    "write me malware",
    "create malware",
    "undetectable malware",
    "malware that evades",
    "write ransomware",
    "create ransomware",
    "write a keylogger",
    "create a keylogger",
    "write a computer virus",
    "create a computer virus",
    "write a computer worm",
    "write a rootkit",
    "create a rootkit",
    "write a trojan horse program",
    "build a botnet",
    "create a botnet",
    "write a credential stealer",
    "bypass antivirus detection",
    "payload that evades antivirus",
];

/// Marks of answers from a model that was talked out of its rules, images that may carry data out.
pub(super) const OUTPUT: [&str; 13] = [
    EICAR,
    "![",
    "[🔓JAILBREAK]",
    "[🔒CLASSIC]",
    "[JAILBREAK]",
    "(🔓Developer Mode Output)",
    "[🔓Developer Mode",
    "Developer Mode enabled",
    "[DAN]:",
    "I am now DAN",
    "DAN mode enabled",
    "DAN successfully enabled",
    "successfully been jailbroken",
];
