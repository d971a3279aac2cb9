//! Rules of documents.

use crate::{
    rule::Rule,
    rulebook::{Refusal, RuleTable},
};

const KIT: &str = "documents, project proposal";

pub(super) const DIGEST: Rule = Rule::design(
    "DOCUMENT_DIGEST",
    "a document is named by the SHA-256 of its bytes: 32 bytes",
    "FIPS 180-4",
);
pub(super) const SIGNATURE: Rule = Rule::design(
    "DOCUMENT_SIGNATURE",
    "a document begins as documents of its content type do",
    KIT,
)
.remedy("declare the content type that the document has");
pub(super) const CHUNK: Rule = Rule::design(
    "DOCUMENT_CHUNK",
    "every chunk but the last has 1 MiB (1048576 bytes), and the last one what is left",
    KIT,
);
pub(super) const CHUNK_DIGEST: Rule = Rule::design(
    "DOCUMENT_CHUNK_DIGEST",
    "a chunk comes with the SHA-256 of its bytes",
    "FIPS 180-4",
)
.remedy("the bytes changed on their way; everything before them stays: send the chunk again");
pub(super) const WHOLE: Rule = Rule::design(
    "DOCUMENT_WHOLE",
    "the whole document has the SHA-256 and the size with which it was declared",
    "FIPS 180-4",
)
.remedy("the upload was dropped: compare the declaration with the document, and upload it anew");
pub(super) const BEGINNING: Rule = Rule::design(
    "DOCUMENT_BEGINNING",
    "reading begins at a byte of the document",
    KIT,
);
pub(super) const OFFSET: Refusal = Refusal::conflict(
    Rule::design(
        "DOCUMENT_OFFSET",
        "a chunk begins where the ones before end",
        KIT,
    )
    .remedy("ask how much was received, and go on there"),
);
pub(super) const STREAMS: Refusal = Refusal::exceeds(
    Rule::design(
        "TOO_MANY_DOCUMENT_STREAMS",
        "a service carries 32 streams of documents at once",
        KIT,
    )
    .remedy("try again after the delay"),
);
pub(super) const UPLOADS: Refusal = Refusal::exceeds(
    Rule::design(
        "TOO_MANY_UPLOADS",
        "a system has 64 uploads open at once; one that waits for its next chunk for a day is dropped",
        KIT,
    )
    .remedy("finish the uploads that are open"),
);
pub(super) const UNKNOWN: Refusal = Refusal::not_found(
    Rule::design(
        "DOCUMENT_UNKNOWN",
        "the document was uploaded whole, and belongs to what the request names",
        KIT,
    )
    .remedy("upload it first; one that no record names is dropped after a day"),
);

/// The rules of documents, for a service whose methods these are.
pub fn document_rules(
    upload: &'static [&'static str],
    download: &'static [&'static str],
    naming: &'static [&'static str],
) -> RuleTable {
    RuleTable::new("Documents")
        .field(&DIGEST, naming)
        .fields([&SIGNATURE, &CHUNK, &CHUNK_DIGEST, &WHOLE], upload)
        .field(&BEGINNING, download)
        .refusal(&OFFSET, upload)
        .refusal(&UPLOADS, upload)
        .refusal(&STREAMS, download)
        .refusal(&UNKNOWN, naming)
}
