"""How tyro turns our dataclasses into flags, beyond its own rules; `flag_tree` says what the flags are."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from postmean.base.flag_tree import kinds
from postmean.base.flags import FlagGroup, flag_name

Choices = Mapping[str, Sequence[str]]
"""Flag -> its allowed values, where the dataclass does not know them."""
_NO_DEFAULT = tyro.conf.arg(help_behavior_hint="")


class _OneOf:
    """Stands for a union of kinds, and holds its default: tyro would reduce the union itself to the default's kind."""

    flag = ""
    options: Mapping[str, type] = {}

    def __init__(self, value: Any) -> None:
        self.value = value


class Rules:
    """tyro's rules and ours.

    Args:
        chosen: flag -> kind, of the flags that choose one.
        shown: flags of a short help, which has no groups; None for all.
    """

    def __init__(self, chosen: Mapping[str, str], choices: Choices, shown: Sequence[str] | None) -> None:
        self._chosen, self._choices, self._shown = chosen, choices, shown
        self.registry = ConstructorRegistry()
        self.registry.struct_rule(self._rule)
        self._inside = False

    def _rule(self, info: StructTypeInfo) -> StructConstructorSpec | None:
        if self._inside or not isinstance(info.type, type):
            return None
        if issubclass(info.type, _OneOf):
            return self._kind(info, info.type)
        if not dataclasses.is_dataclass(info.type):
            return None
        if self._shown is not None:
            short = dict(self._short(info, self._shown))
            fields = tuple(short[flag] for flag in self._shown if flag in short)
            return StructConstructorSpec(instantiate=info.type, fields=fields)
        spec = self._of_tyro(info)
        return dataclasses.replace(spec, fields=tuple(self._field(info.type, each) for each in spec.fields))

    def _of_tyro(self, info: StructTypeInfo) -> StructConstructorSpec:
        """What tyro alone makes of a dataclass."""
        self._inside = True  # it calls our rule again, which must then leave the class to tyro's
        try:
            spec = self.registry.get_struct_spec(info)
        finally:
            self._inside = False
        assert isinstance(spec, StructConstructorSpec)
        return spec

    def _field(self, owner: type, spec: StructFieldSpec) -> StructFieldSpec:
        """A field under the name of its flag."""
        flag, is_group = flag_name(owner, spec.name), issubclass(owner, FlagGroup)
        if options := kinds(spec.type):
            holder = type(flag, (_OneOf,), {"flag": flag, "options": options})
            spec = dataclasses.replace(spec, type=holder, default=holder(spec.default))
        elif spec.default in self._choices.get(flag, ()):  # a default from a file may be none of them
            spec = dataclasses.replace(spec, type=Literal[tuple(self._choices[flag])])  # type: ignore[arg-type]
        if flag == spec.name and not is_group:
            return spec
        named = tyro.conf.arg(prefix_name=False if is_group else None, name=flag)
        return dataclasses.replace(spec, type=Annotated[spec.type, named])

    def _kind(self, info: StructTypeInfo, one_of: type[_OneOf]) -> StructConstructorSpec:
        """The flag that chooses a kind, and the flags of the chosen one."""
        options, kind = one_of.options, self._chosen[one_of.flag]
        value = info.default.value
        default = value if getattr(value, "kind", None) == kind else tyro.MISSING_NONPROP
        own: tuple[StructFieldSpec, ...] = ()
        if kind in options:
            own = self._of_tyro(dataclasses.replace(info, type=options[kind], default=default)).fields
        return StructConstructorSpec(
            instantiate=lambda kind, **values: options[kind](**values),
            fields=(_chooser("kind", one_of.flag, options, kind, tyro.conf.arg(name="")), *own),
        )

    def _short(self, info: StructTypeInfo, shown: Sequence[str]) -> Iterator[tuple[str, StructFieldSpec]]:
        """Flag and field, of those that a short help has, each with the start of its text."""
        for spec in self._of_tyro(info).fields:
            flag = flag_name(info.type, spec.name).replace("_", "-")
            is_settings = spec.name == "settings" and not issubclass(info.type, FlagGroup)
            if is_settings or (isinstance(spec.type, type) and issubclass(spec.type, FlagGroup)):
                yield from self._short(StructTypeInfo.make(spec.type, spec.default, False), shown)
            elif flag in shown:
                if options := kinds(spec.type):
                    yield flag, _chooser(spec.name, flag, options, self._chosen[flag], tyro.conf.arg(name=flag))
                else:
                    field = self._field(info.type, spec)
                    if spec.default is None or spec.default is False or spec.default == "":  # says nothing
                        field = dataclasses.replace(field, type=Annotated[field.type, _NO_DEFAULT])
                    yield flag, dataclasses.replace(field, helptext=_first_sentence(spec.helptext))


def _chooser(name: str, flag: str, options: Mapping[str, type], kind: str, named: object) -> StructFieldSpec:
    return StructFieldSpec(
        name=name,
        type=Annotated[Literal[tuple(options)], named],  # type: ignore[arg-type]
        default=kind if kind in options else tyro.MISSING_NONPROP,
        helptext=f"Its settings: --{flag}.NAME.",
    )


def _first_sentence(text: str | Callable[[], str | None] | None) -> Callable[[], str]:
    def first() -> str:
        said = (text() if callable(text) else text) or ""
        return said.partition(". ")[0].rstrip(".") + "." if said else ""

    return first
