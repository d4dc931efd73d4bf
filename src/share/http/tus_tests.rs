//! The headers of uploads, whatever is in them.

use proptest::prelude::*;

use super::*;

fn headers(name: &HeaderName, value: &[u8]) -> Option<HeaderMap> {
    let value = HeaderValue::from_bytes(value).ok()?;
    Some(HeaderMap::from_iter([(name.clone(), value)]))
}

fn metadata() -> HeaderName {
    HeaderName::from_static("upload-metadata")
}

/// Keys that mean something with values that are mostly paths, and others.
fn pair() -> impl Strategy<Value = String> {
    let key = "(filename|folder|relativePath|lastModified|FileName|)";
    let value = prop_oneof![
        "([./\\\\]|\\.\\.|a|\u{202e}|\u{0}){0,8}".prop_map(|text| STANDARD.encode(text)),
        "[0-9-]{0,25}".prop_map(|text| STANDARD.encode(text)),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| STANDARD.encode(bytes)),
        "[A-Za-z0-9+/= ]{0,20}",
    ];
    (key, value).prop_map(|(key, value)| format!("{key} {value}"))
}

proptest! {
    #[test]
    fn whatever_is_wished_is_a_place_below_the_share(pairs in proptest::collection::vec(pair(), 0..6)) {
        let headers = headers(&metadata(), pairs.join(",").as_bytes()).unwrap();
        if let Ok(wish) = Wish::read(&headers) {
            prop_assert!(!wish.below.is_empty());
            prop_assert!(wish.folder.names().all(|name| name != b".." && name != b"." && !name.contains(&0)));
            let latest = SystemTime::UNIX_EPOCH + Duration::from_millis(15_000_000_000_000);
            prop_assert!(wish.modified.is_none_or(|modified| modified <= latest));
        }
    }

    #[test]
    fn no_header_of_an_upload_panics(value in proptest::collection::vec(any::<u8>(), 0..100), text in "\\PC{0,20}") {
        for value in [&value[..], text.as_bytes()] {
            for name in [metadata(), OFFSET, LENGTH, header::CONTENT_LENGTH, HeaderName::from_static("upload-checksum")] {
                let Some(headers) = headers(&name, value) else { continue };
                let _ = (Wish::read(&headers), checksum(&headers), body_len(&headers), check_version(&headers));
                if let Ok(Some(n)) = number(&headers, &name) {
                    // Digits and nothing else: no sign, no space, no second one.
                    let digits = std::str::from_utf8(value).unwrap();
                    prop_assert!(digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse() == Ok(n));
                }
            }
        }
    }

    #[test]
    fn a_checksum_is_of_32_bytes(digest in proptest::collection::vec(any::<u8>(), 0..40), algorithm in "(sha256|sha1|SHA256|) ?") {
        let value = format!("{algorithm}{}", STANDARD.encode(&digest));
        let headers = headers(&HeaderName::from_static("upload-checksum"), value.as_bytes()).unwrap();
        match checksum(&headers) {
            Ok(found) => prop_assert!(algorithm == "sha256 " && digest.len() == 32 && found == Some(digest)),
            Err(problem) => prop_assert_eq!(problem.status, StatusCode::BAD_REQUEST),
        }
    }

    #[test]
    fn an_id_is_read_in_one_way(text in "[0-9a-fA-F+ ]{30,34}") {
        if let Some(id) = UploadId::decode(&text) {
            prop_assert_eq!(id.encode(), text);
        }
    }
}
