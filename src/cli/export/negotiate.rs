//! Which of the two formats a client wants, by its `Accept` fields (RFC 9110, section 12.5.1).

/// Whether OpenMetrics is preferred to the text format 0.0.4. Who says nothing gets 0.0.4, which everything reads.
pub(super) fn takes_openmetrics(accept: &[&str]) -> bool {
    let mut openmetrics = 0;
    let mut plain = 0;
    for item in accept.iter().flat_map(|field| field.split(',')) {
        let mut parts = item.split(';').map(|part| part.trim().to_ascii_lowercase());
        let kind = parts.next().unwrap_or_default();
        let (mut weight, mut is_known) = (1000, true);
        for (key, value) in parts.filter_map(|part| part.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()))) {
            match key.trim() {
                "q" => weight = thousandths(value.trim()),
                "version" => is_known = matches!(value.trim().trim_matches('"'), "1.0.0" | "0.0.1" | "0.0.4"),
                _ => {}
            }
        }
        match kind.as_str() {
            "application/openmetrics-text" if is_known => openmetrics = openmetrics.max(weight),
            "text/plain" if is_known => plain = plain.max(weight),
            _ => {}
        }
    }
    openmetrics > 0 && openmetrics >= plain
}

/// A weight between 0 and 1; what is none counts as the least, so that the safe format is taken.
fn thousandths(text: &str) -> u32 {
    let weight: f64 = text.parse().unwrap_or(0.0);
    if !weight.is_finite() {
        return 0;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
    let weight = (weight.clamp(0.0, 1.0) * 1000.0).round() as u32;
    weight
}

#[cfg(test)]
mod tests {
    use super::takes_openmetrics;

    #[test]
    fn the_format_is_the_one_that_the_client_weighs_more() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, wanted) in [
            (&[prometheus][..], true),
            (&["application/openmetrics-text"], true),
            (&["Application/OpenMetrics-Text ; Version=\"1.0.0\""], true),
            (&["text/plain;q=0.9", "application/openmetrics-text;q=0.8"], false),
            (&["text/plain, application/openmetrics-text"], true),
            (&["application/openmetrics-text;q=0"], false),
            (&["application/openmetrics-text;version=2.0.0"], false),
            (&["application/openmetrics-text;q=nan"], false),
            (&["application/openmetrics-text;q=-1,text/plain;q=0"], false),
            (&["*/*"], false),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], false),
            (&[""], false),
            (&[";;,=;q=;,q"], false),
            (&[], false),
        ] {
            assert_eq!(takes_openmetrics(accept), wanted, "{accept:?}");
        }
    }
}
