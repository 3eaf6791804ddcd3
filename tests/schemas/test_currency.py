"""Currencies: the active codes of ISO 4217, and nothing else that looks like one."""

import re

import pytest
from support.simulated_hits import hit

from consumers.decode import decode
from schemas.currency import CURRENCIES
from schemas.limits import Limits
from schemas.rejection import Reason, Rejection
from schemas.validate import validate

# ISO 4217, list one: the most traded (BIS 2022), those without or with three minor digits, and the latest amendments
ACTIVE = """
    USD EUR JPY GBP CNY AUD CAD CHF HKD SGD SEK KRW NOK NZD INR MXN TWD ZAR BRL DKK PLN THB ILS IDR CZK AED TRY HUF CLP
    SAR PHP MYR COP RUB RON PEN BHD JOD KWD OMR TND IQD LYD VND ISK PYG UGX XAF XOF XPF RWF MRU STN VES VED SLE ZWG XCG
    SVC BYN AZN GHS MZN TMT UYU ZMW
    """.split()  # noqa: SIM905  a table of codes reads best as one
HISTORIC = ("DEM", "FRF", "ITL", "HRK", "LTL", "SLL", "ZWL", "VEF", "BYR", "MRO", "STD", "CUC", "TRL")
FUNDS_METALS_TESTS = ("CHE", "CHW", "CLF", "COU", "MXV", "USN", "UYI", "BOV", "XAU", "XAG", "XDR", "XTS", "XXX")
NO_CODES = ("EU", "EURO", "€", "E R", "BTC", "USDT", "RMB", "978", "ÉUR", "EUR\n", "eur;usd")


def made(currency):
    return validate(decode(hit(event={"cur": currency})), Limits())


def test_every_code_is_three_letters_and_there_are_as_many_as_the_standard_has():
    assert all(re.fullmatch("[A-Z]{3}", code) for code in CURRENCIES)
    assert 150 <= len(CURRENCIES) <= 160


@pytest.mark.parametrize("code", ACTIVE)
def test_active_codes_in_any_case(code):
    for text in (code, code.lower(), code.title()):
        assert made(text)[0].currency == code


@pytest.mark.parametrize("code", [*HISTORIC, *FUNDS_METALS_TESTS, *NO_CODES])
def test_what_is_no_active_code_is_rejected(code):
    rejection = made(code)
    assert isinstance(rejection, Rejection)
    assert rejection.reason is Reason.BAD_CURRENCY
