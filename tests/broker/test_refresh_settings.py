"""When logins are refreshed early: by whether other hosts have them, too."""

from tokenferry.broker._backend import refresh_settings
from tokenferry.settings import RefreshSettings, StoreSettings


def test_hosts_that_share_a_login_refresh_it_earlier_and_not_all_at_once() -> None:
    shared = StoreSettings(url="postgresql://db/x", orphan_wait=300.0)
    found = [refresh_settings(shared) for _ in range(100)]
    assert all(480 <= one.advisory <= 600 for one in found)
    assert len({one.advisory for one in found}) > 50
    assert {one.orphan_wait for one in found} == {300.0}
    assert refresh_settings(StoreSettings()) == RefreshSettings()
