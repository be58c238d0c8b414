"""A list of Textual's that takes keys before it has been given a size, or where there is no room for it."""

from textual.widgets import OptionList


class SizelessList(OptionList):
    """See the module. There is no page to turn then."""

    def action_page_up(self) -> None:
        if self.scrollable_content_region:
            super().action_page_up()

    def action_page_down(self) -> None:
        if self.scrollable_content_region:
            super().action_page_down()


__all__ = ["SizelessList"]
