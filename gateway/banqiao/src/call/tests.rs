use super::*;

#[test]
fn metadata_is_ascii_on_the_wire() {
    assert_eq!(
        percent_encoded("statutory:社会 100%"),
        "statutory:%E7%A4%BE%E4%BC%9A 100%25"
    );
    assert_eq!(percent_encoded("a\r\nb"), "a%0D%0Ab");
}
