from typing import get_args

import pytest

from accounting import vocabulary
from accounting.accountants import ACCOUNTANTS
from clients.contract.setting_tree import SettingTree
from clients.learning.optimizers import OPTIMIZERS
from clients.learning.server_steps import SERVER_STEPS
from crypto import plans, schemes


@pytest.mark.parametrize(
    ("group", "key", "known"),
    [
        ("privacy", "regime", vocabulary.REGIMES),
        ("privacy", "accountant", ACCOUNTANTS),
        ("exchange", "name", vocabulary.EXCHANGES),
        ("exchange", "optimizer", OPTIMIZERS | SERVER_STEPS),
        ("sealing", "scheme", vocabulary.SCHEMES),
        ("sealing", "scheme", schemes.SCHEMES),
        ("sealing", "scheme", plans.SCHEME_NAMES),
    ],
)
def test_a_setting_offers_exactly_the_names_that_its_table_knows(group, key, known):
    offered = SettingTree.model_fields[group].annotation.model_fields[key].annotation
    assert set(get_args(offered)) == set(known)
