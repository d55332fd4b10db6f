import re
from dataclasses import replace
from pathlib import Path

import pytest

from medssl_nb.data import catalogue
from medssl_nb.data.catalogue import DATA_SETS, ByHand, Direct, GitHub, Zenodo, command_for, find

SCRIPTS = Path(__file__).parents[2] / "data_scripts"
BY_NAME = {row.name: row for row in DATA_SETS}


def remote_files(row):
    return (
        row.access.files
        if isinstance(row.access, Direct)
        else [row.access.file]
        if isinstance(row.access, GitHub)
        else []
    )


def test_the_decathlon_agrees_with_monai():
    from monai.apps import DecathlonDataset

    files = {f.name: f for row in DATA_SETS if row.tier == "A" for f in remote_files(row)}
    assert {name: f.address for name, f in files.items()} == {
        f"{k}.tar": v for k, v in DecathlonDataset.resource.items()
    }
    assert {name: f.md5 for name, f in files.items()} == {f"{k}.tar": v for k, v in DecathlonDataset.md5.items()}


def test_every_set_of_the_plan_has_a_row():
    planned = """
        A: brain_tumour heart liver hippocampus prostate lung pancreas hepatic_vessel spleen colon
        B: flare22 acdc promise12 busi nih_chestxray stare chase_db1 hrf retinal_vessel_masks
        B: totalsegmentator totalsegmentator_small totalsegmentator_samples amos22 openkbp open_ms
        B: open_ms_cross_sectional afids pddca verse2019 verse2020 medmnist3d sunnybrook
        C: flare22_unlabelled btcv mmwhs hecktor brats2018 jsrt siim_pneumothorax eyepacs drive rite drishti_gs idrid
    """
    lines = (line.split(":") for line in planned.strip().splitlines())
    wanted = {(tier.strip(), name) for tier, names in lines for name in names.split()}
    assert {(row.tier, row.name.removeprefix("msd_")) for row in DATA_SETS} == wanted


def test_names_and_folders_are_unique():
    assert len(BY_NAME) == len(DATA_SETS) == len({row.folder for row in DATA_SETS})


@pytest.mark.parametrize("row", DATA_SETS, ids=BY_NAME)
def test_a_row_is_well_formed(row):
    for file in remote_files(row):
        assert re.fullmatch(r"https?://[\w.-]+/\S+", file.address)
        assert file.md5 is None or re.fullmatch(r"[0-9a-f]{32}", file.md5)
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert re.fullmatch(r"[\w.-]+", file.name)
    names = [file.name for file in remote_files(row)]
    assert len(set(names)) == len(names)
    assert isinstance(row.access, ByHand) or row.access.source
    assert row.page.startswith("http") and row.layout and row.tier in "ABC"
    assert (row.arrangement == "pairs") == (row.pairs is not None)
    assert (row.label_files is None) == (row.labels == ())
    if isinstance(row.access, GitHub):
        assert re.fullmatch(r"[0-9a-f]{40}", row.access.commit)
    if row.tier == "C":
        assert isinstance(row.access, ByHand) and row.access.account


def test_files_without_encryption_have_a_checksum_or_are_few():
    open_to_change = {
        row.name for row in DATA_SETS for f in remote_files(row) if f.address.startswith("http:") and not f.expected()
    }
    assert open_to_change == {"pddca"}, "an unencrypted download without a checksum can be altered on the way"


def test_zenodo_rows_name_a_record_and_files():
    rows = [row for row in DATA_SETS if isinstance(row.access, Zenodo)]
    assert {row.name for row in rows} == {"flare22", "promise12", "amos22", "medmnist3d"}
    assert all(str(row.access.record) in row.page and row.access.names for row in rows)


@pytest.mark.parametrize(
    ("cohort", "script"),
    [
        ("hippocampus", "msd_hippocampus"),
        ("headneck_ct", "openkbp"),
        ("torso", "totalsegmentator_samples"),
        ("ms_lesions", "open_ms"),
        ("msd_spleen", "msd_spleen"),
    ],
)
def test_the_command_for_a_cohort(cohort, script):
    assert command_for(cohort) == f"python data_scripts/{script}.py"
    assert (SCRIPTS / f"{script}.py").is_file()


def test_an_unknown_set_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no data set 'liver'.*msd_liver"):
        find("liver")


def test_the_files_on_disk_are_those_of_the_table():
    """After a change of the table: `python -m medssl_nb.data.catalogue data_scripts`."""
    assert (SCRIPTS / "README.md").read_text(encoding="utf-8") == catalogue.readme()
    assert {p.stem for p in SCRIPTS.glob("*.py")} == {*BY_NAME, "_start"}
    for row in DATA_SETS:
        assert (SCRIPTS / f"{row.name}.py").read_text(encoding="utf-8") == catalogue.script_text(row)


def test_doubts_are_marked_in_the_table():
    row = catalogue._readme_row(BY_NAME["msd_liver"])
    assert "131 labelled, 70 unlabelled †" in row and "27 GB †" in row and "CC BY-SA 4.0 |" in row
    assert "not recorded" in catalogue._readme_row(BY_NAME["retinal_vessel_masks"])
    assert "| B, by hand |" in catalogue._readme_row(BY_NAME["sunnybrook"])


def test_the_tier_follows_from_the_access():
    by_hand = replace(BY_NAME["btcv"], tier="", access=ByHand("files", account=False))
    assert by_hand.tier == "B" and BY_NAME["btcv"].tier == "C" and BY_NAME["acdc"].tier == "B"


def test_scripts_write_what_the_table_says(tmp_path):
    catalogue.write_scripts(tmp_path)
    assert len(list(tmp_path.glob("*.py"))) == len(DATA_SETS)
