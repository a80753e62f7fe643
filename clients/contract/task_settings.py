"""The settings of a task: how the targets of the records are learnt."""

from pydantic import Field

from clients.contract.setting_group import Group, since


class TaskChoice(Group):
    """How targets are learnt and judged."""

    name: str = Field(
        default="",
        max_length=256,
        json_schema_extra=since("0.2"),
        description="how targets are learnt ('' = the usual way of their kind; ordinal for grades; "
        "package.module:name for your own)",
    )
