//! 材料: what an applicant brings, and what the engine verifies itself instead of asking for it.
//!
//! ```text
//!   UploadMaterial ─▶ waived by a data call? ─▶ the engine asks card, lab or another city's service through the gateway
//!                                                 ├─ it confirms: the exchange is the proof, and nothing is asked for
//!                                                 └─ no answer, or no: the reason is recorded, and the document is taken
//!   chunks ─▶ the kit's documents (by SHA-256, resumable) ─▶ `case_material`, append-only
//! ```
//!
//! Law: 国务院令第716号 art. 7 (Q): what can be had by sharing must not be asked of the applicant.

mod call;
mod materials;
mod rule;

pub use call::{CallHints, DataCalls, Verification};
pub use materials::{MATERIAL_DOCUMENTS, MaterialUpload, Materials, Shown};
pub(crate) use rule::{HEADER, rules};
