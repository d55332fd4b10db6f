"""Attributes of a widget that are its controls."""

import numbers


class Setting:
    """An attribute that reads and moves one of a widget's `controls`; what the control cannot show is refused."""

    def __init__(self, meaning: str):
        self.meaning = meaning

    def __set_name__(self, owner, name: str):
        self.name = name

    def __get__(self, widget, owner=None):
        return self if widget is None else widget.controls[self.name].value

    def __set__(self, widget, value):
        control = widget.controls[self.name]
        if hasattr(control, "options"):
            known = [option[1] if isinstance(option, tuple) else option for option in control.options]
            if value not in known:
                raise ValueError(f"{self.name} is {self.meaning}: one of {', '.join(map(repr, known))}; got {value!r}.")
        elif not (isinstance(value, numbers.Real) and control.min <= value <= control.max):
            raise ValueError(f"{self.name} is {self.meaning}, from {control.min:g} to {control.max:g}; got {value!r}.")
        control.value = value
