"""What HTTP says of a caller before anybody has looked at it."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from node.ingress.incoming import credentials_of
from proto.errors import Unauthenticated


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
@pytest.mark.parametrize("values", [("Bearer a", "Bearer b"), ("", "Bearer b"), ("Bearer a", "")])
def test_a_header_that_comes_twice_proves_nobody(name, values):
    request = make_mocked_request("POST", "/mcp", headers=CIMultiDict([(name, value) for value in values]))
    with pytest.raises(Unauthenticated, match="more than once"):
        credentials_of(request)


def test_what_stands_in_a_query_is_no_credential():
    shown = credentials_of(make_mocked_request("GET", "/mcp?access_token=a&api_key=b&token=c"))
    assert (shown.bearer, shown.basic, shown.api_key, shown.certificate) == ("", "", "", b"")
