"""URLs and domains: made equal only where no server can tell them apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol.urls import MAX_URL_CHARACTERS, canonical_domain, canonical_url

hosts = st.sampled_from(["A.Example", "x_1.a-b.example.", "127.0.0.1", "[::1]", "a"])
urls = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "HTTPS", "Http", "ftp"]),
    hosts,
    st.sampled_from(["", ":", ":80", ":443", ":8080", ":080", ":0", ":65536"]),
    st.text("/?#%aF2.~:@ é", max_size=12),
)


@given(urls | st.text(max_size=40))
def test_a_canonical_url_is_its_own_canonical_form(text: str) -> None:
    canonical = canonical_url(text)
    assert canonical is None or canonical_url(canonical) == canonical


@given(st.text("aA1-_.x", max_size=12) | st.text(max_size=40))
def test_a_canonical_domain_is_its_own_canonical_form(text: str) -> None:
    canonical = canonical_domain(text)
    assert canonical is None or canonical_domain(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("http://a.example", "http://a.example/"),
        ("HTTP://A.Example./", "http://a.example/"),
        ("https://a.example:443/x", "https://a.example/x"),
        ("https://a.example:/x", "https://a.example/x"),
        ("http://a.example:443/x", "http://a.example:443/x"),
        ("https://a.example/x#part", "https://a.example/x"),
        ("https://a.example?q=1#", "https://a.example/?q=1"),
        ("https://a.example/?", "https://a.example/?"),
        ("https://a.example/%e2%82%ac%zz", "https://a.example/%E2%82%AC%zz"),
        ("https://a.example/%7Ea/../b//c", "https://a.example/%7Ea/../b//c"),
        ("https://a.example/Path?Query=A", "https://a.example/Path?Query=A"),
        ("https://xn--exmple-cua.example/", "https://xn--exmple-cua.example/"),
        ("http://192.0.2.1/", "http://192.0.2.1/"),
        ("http://[2001:DB8:0:0::1]:8080/", "http://[2001:db8::1]:8080/"),
        ("http://a.example/a@b:c", "http://a.example/a@b:c"),
    ],
)
def test_equivalent_urls_become_equal_and_others_stay(
    text: str, canonical: str
) -> None:
    assert canonical_url(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.example/x",
        "//a.example/x",
        "ftp://a.example/",
        "javascript:alert(1)",
        "http:/a.example/",
        "http:///x",
        "http://localhost/",
        "http://user@a.example/",
        "http://user:pass@a.example/",
        "http://a.example:0/",
        "http://a.example:080/",
        "http://a.example:65536/",
        "http://a.example:123456/",
        "http://a..example/",
        "http://-a.example/",
        "http://a b.example/",
        "http://a.example/ b",
        "http://a.example/\n",
        "http://é.example/",
        "http://a.example/é",
        "http://0x7f.1/",
        "http://127.1/",
        "http://127.0.0.01/",
        "http://[::ffff:192.0.2.1]/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://[1:2]/",
        "http://a.example\\@b.example/",
        "http://a.example/" + "a" * MAX_URL_CHARACTERS,
        # The path that is added makes this one too long.
        "http://a.example?" + "a" * (MAX_URL_CHARACTERS - 17),
    ],
)
def test_what_is_no_plain_web_address_is_refused(text: str) -> None:
    assert canonical_url(text) is None


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("A.Example", "a.example"),
        ("a.example.", "a.example"),
        ("_dmarc.a.example", "_dmarc.a.example"),
        ("xn--exmple-cua.example", "xn--exmple-cua.example"),
        (".".join(["a" * 63] * 3 + ["a" * 61]), ".".join(["a" * 63] * 3 + ["a" * 61])),
    ],
)
def test_domains_are_brought_into_lower_case(text: str, canonical: str) -> None:
    assert canonical_domain(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "localhost",
        "192.0.2.1",
        "a..example",
        "a.example..",
        "-a.example",
        "a-.example",
        "a.example:80",
        "a.example/x",
        "*.a.example",
        "é.example",
        "\N{KELVIN SIGN}.example",  # its lower case is an ASCII k
        "a" * 64 + ".example",
        ".".join(["a" * 63] * 4),
    ],
)
def test_what_is_no_domain_is_refused(text: str) -> None:
    assert canonical_domain(text) is None
