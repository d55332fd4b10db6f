import csv
import json

import nibabel
import numpy as np
import pytest

from medssl_nb.data import convert_open_ms, convert_openkbp, convert_totalsegmentator
from medssl_nb.data.arrange import arrange, link_tree
from medssl_nb.data.catalogue import Count, find
from medssl_nb.data.cohorts import load_cohort
from medssl_nb.data.errors import FetchError
from medssl_nb.data.real import headneck_ct, ms_lesions, torso
from medssl_nb.data.verify import check_arranged, check_decathlon, check_layout, locate


def nifti(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine)
    image.to_filename(path)
    return path


def scan(path, shape=(6, 5, 4), seed=0):
    return nifti(path, np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16))


def label(path, values=(0, 1), shape=(6, 5, 4)):
    return nifti(path, np.resize(np.array(values, np.uint8), shape))


def names_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# ---------------------------------------------------------------- finding and checking
def test_a_layout_is_found_however_deep_it_is_wrapped(tmp_path):
    layout = (Count("img/img*.nii.gz", 1), Count("label/label*.nii.gz", 1))
    for place in ("", "RawData/Training", "a/b/c"):
        tree = tmp_path / (place.replace("/", "_") or "flat")
        scan(tree / place / "img" / "img0001.nii.gz")
        label(tree / place / "label" / "label0001.nii.gz")
        assert locate(tree, layout) == tree / place


def test_the_nearest_miss_is_reported_where_nothing_fits(tmp_path):
    scan(tmp_path / "RawData" / "img" / "img0001.nii.gz")
    layout = (Count("img/img*.nii.gz", 1), Count("label/label*.nii.gz", 1))
    root = locate(tmp_path, layout)
    assert root == tmp_path / "RawData"
    assert check_layout(root, layout).problems == ["0 files label/label*.nii.gz, expected 1"]


def test_counts_that_are_sure_stop_and_others_remark(tmp_path):
    for n in range(3):
        (tmp_path / f"{n}.txt").write_text("x")
    (tmp_path / "._0.txt").write_text("hidden")
    assert check_layout(tmp_path, [Count("*.txt", 3), Count("*.txt")]).problems == []
    assert check_layout(tmp_path, [Count("*.txt", 4)]).problems == ["3 files *.txt, expected 4"]
    doubtful = check_layout(tmp_path, [Count("*.txt", 4, sure=False)])
    assert doubtful.problems == [] and "from memory" in doubtful.remarks[0]
    assert check_layout(tmp_path, [Count("*.png", 4, sure=False)]).problems == ["0 files *.png, expected 4"]


def decathlon(folder, cases=3, values=(0, 1, 2)):
    entries = []
    for n in range(cases):
        scan(folder / "imagesTr" / f"c_{n}.nii.gz", seed=n)
        label(folder / "labelsTr" / f"c_{n}.nii.gz", values)
        entries.append({"image": f"./imagesTr/c_{n}.nii.gz", "label": f"./labelsTr/c_{n}.nii.gz"})
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "a", "2": "b"}, "training": entries}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_a_good_decathlon_folder_passes(tmp_path):
    found = check_decathlon(decathlon(tmp_path))
    assert found.problems == [] and found.summary == "3 labelled and 0 further scans"


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda f: (f / "dataset.json").unlink(), "dataset.json cannot be used"),
        (lambda f: (f / "dataset.json").write_text("{"), "dataset.json cannot be used"),
        (lambda f: (f / "imagesTr/c_1.nii.gz").unlink(), r"1 files .* missing: imagesTr/c_1\.nii\.gz"),
        (lambda f: label(f / "labelsTr/c_9.nii.gz"), "1 label maps that dataset.json does not name"),
        (lambda f: label(f / "labelsTr/c_1.nii.gz", shape=(6, 5, 3)), r"c_1\.nii\.gz has shape \(6, 5, 3\)"),
        (lambda f: label(f / "labelsTr/c_1.nii.gz", (0, 7)), r"label values \[7\]"),
        (lambda f: (f / "labelsTr/c_1.nii.gz").write_bytes(b"junk"), "not a readable NIfTI file"),
        (lambda f: cut(f / "labelsTr/c_1.nii.gz"), "cut short or damaged"),
        (
            lambda f: nifti(f / "labelsTr/c_1.nii.gz", np.zeros((6, 5, 4), np.uint8), np.diag([2.0, 2, 2, 1])),
            "but lies up to",
        ),
    ],
)
def test_each_damage_of_a_decathlon_folder_is_named(tmp_path, damage, problem):
    import re

    damage(decathlon(tmp_path))
    problems = check_decathlon(tmp_path).problems
    assert len(problems) == 1 and re.search(problem, problems[0])


def cut(path):
    import gzip

    noise = np.random.default_rng(0).integers(0, 2, (60, 50, 40)).astype(np.uint8)
    nifti(path.parent.parent / "imagesTr" / path.name, noise)
    nifti(path, noise)
    raw = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(raw)[: len(gzip.compress(raw)) // 2])


def test_hidden_files_of_macos_are_no_scans(tmp_path):
    decathlon(tmp_path)
    (tmp_path / "labelsTr" / "._c_0.nii.gz").write_bytes(b"junk")
    assert check_decathlon(tmp_path).problems == []


def test_label_values_of_sets_that_stay_as_they_are(tmp_path):
    for n in range(2):
        for kind in ("ct", "mr"):
            scan(tmp_path / f"{kind}_train_{n}_image.nii.gz")
            nifti(tmp_path / f"{kind}_train_{n}_label.nii.gz", np.full((6, 5, 4), 205, np.int16))
    found = check_arranged(find("mmwhs"), tmp_path)
    assert found.problems == [] and len(found.remarks) == 4
    nifti(tmp_path / "ct_train_0_label.nii.gz", np.full((6, 5, 4), 3, np.int16))
    assert "label values [3]" in check_arranged(find("mmwhs"), tmp_path).problems[0]


def test_a_users_files_are_linked_not_moved(tmp_path):
    (tmp_path / "mine" / "sub").mkdir(parents=True)
    (tmp_path / "mine" / "sub" / "a").write_text("1")
    (tmp_path / "mine" / ".hidden").write_text("2")
    link_tree(tmp_path / "mine", tmp_path / "out")
    assert names_in(tmp_path / "out") == ["sub/a"] and names_in(tmp_path / "mine") == [".hidden", "sub/a"]


def test_files_are_copied_where_links_do_not_work(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").write_text("1")
    monkeypatch.setattr("os.link", lambda *args: (_ for _ in ()).throw(OSError("other disk")))
    link_tree(tmp_path / "mine", tmp_path / "out")
    assert (tmp_path / "out" / "a").read_text() == "1"


# ---------------------------------------------------------------- image and label pairs to Decathlon layout
def arranged(name, root, tmp_path):
    data_set = find(name)
    arrange(data_set, root, tmp_path / "ready")
    assert check_arranged(data_set, tmp_path / "ready").problems == []
    return tmp_path / "ready"


def test_flare22(tmp_path):
    for n in range(1, 5):
        scan(tmp_path / "in" / "images" / f"FLARE22_Tr_{n:04d}_0000.nii.gz")
        label(tmp_path / "in" / "labels" / f"FLARE22_Tr_{n:04d}.nii.gz", range(14))
    cohort = load_cohort(arranged("flare22", tmp_path / "in", tmp_path))
    assert sorted(cohort.cases) == [f"FLARE22_Tr_{n:04d}" for n in range(1, 5)]
    assert cohort.modality == "CT" and cohort.label_names[13] == "left kidney"
    assert cohort.cases["FLARE22_Tr_0001"].label().max() == 13


def test_btcv(tmp_path):
    for n in (1, 21):
        scan(tmp_path / "in" / "img" / f"img{n:04d}.nii.gz")
        label(tmp_path / "in" / "label" / f"label{n:04d}.nii.gz", range(14))
    assert names_in(arranged("btcv", tmp_path / "in", tmp_path)) == [
        "dataset.json", "imagesTr/btcv_0001.nii.gz", "imagesTr/btcv_0021.nii.gz",
        "labelsTr/btcv_0001.nii.gz", "labelsTr/btcv_0021.nii.gz",
    ]  # fmt: skip


def test_acdc_keeps_patients_together_and_the_owners_test_part(tmp_path):
    root = tmp_path / "in"
    for part, numbers in (("training", range(1, 11)), ("testing", (101, 102))):
        for n in numbers:
            patient = f"patient{n:03d}"
            nifti(root / part / patient / f"{patient}_4d.nii.gz", np.zeros((6, 5, 4, 2), np.int16))
            (root / part / patient / "Info.cfg").write_text("ED: 1")
            for frame in ("01", "09"):
                scan(root / part / patient / f"{patient}_frame{frame}.nii.gz")
                label(root / part / patient / f"{patient}_frame{frame}_gt.nii.gz", range(4))
    folder = arranged("acdc", root, tmp_path)
    cohort = load_cohort(folder)
    assert len(cohort.cases) == 24 and cohort.label_names[3] == "left ventricle"
    patients = {part: {c[:10] for c in getattr(cohort.split, part)} for part in ("train", "validation", "test")}
    assert patients["test"] == {"patient101", "patient102"}
    assert len(patients["train"]) == 9 and len(patients["validation"]) == 1
    assert not patients["train"] & patients["validation"]
    assert (folder / "other" / "training" / "patient001" / "Info.cfg").is_file()
    assert (folder / "other" / "training" / "patient001" / "patient001_4d.nii.gz").is_file()


def test_verse(tmp_path):
    root = tmp_path / "in"
    for part, subject in (("training", "sub-verse004"), ("training", "sub-verse005"), ("validation", "sub-verse006"),
                          ("test", "sub-verse007")):  # fmt: skip
        base = root / f"dataset-verse19{part}" / f"dataset-verse19{part}"
        scan(base / "rawdata" / subject / f"{subject}_dir-ax_ct.nii.gz")
        label(base / "derivatives" / subject / f"{subject}_dir-ax_seg-vert_msk.nii.gz", (0, 20, 28))
        (base / "derivatives" / subject / f"{subject}_dir-ax_seg-subreg_ctd.json").write_text("[]")
    folder = arranged("verse2019", root, tmp_path)
    assert load_cohort(folder).split.test == ("sub-verse007_dir-ax",)
    assert len(names_in(folder / "other")) == 4


def test_open_ms_cross_sectional(tmp_path):
    for n in (1, 2, 3):
        scan(tmp_path / "in" / f"patient{n:02d}_FLAIR.nii.gz")
        label(tmp_path / "in" / f"patient{n:02d}_consensus_gt.nii.gz")
    cohort = load_cohort(arranged("open_ms_cross_sectional", tmp_path / "in", tmp_path))
    assert cohort.modality == "MR" and sorted(cohort.cases) == ["patient01", "patient02", "patient03"]


def test_a_set_without_any_pair_is_refused(tmp_path):
    scan(tmp_path / "in" / "images" / "FLARE22_Tr_0001_0000.nii.gz")
    with pytest.raises(FetchError, match="no image with its label map"):
        arrange(find("flare22"), tmp_path / "in", tmp_path / "ready")


# ---------------------------------------------------------------- OpenKBP
def write_table(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = array.ravel()
    with path.open("w") as stream:
        stream.write(",data\n")
        for index in np.flatnonzero(flat):
            stream.write(f"{index},{float(flat[index])}\n" if path.name == "ct.csv" else f"{index},\n")


def block(centre, size=3):
    array = np.zeros(convert_openkbp.GRID, np.int16)
    array[tuple(slice(c - size // 2, c - size // 2 + size) for c in centre)] = 1
    return array


# (front to back, right to left, top down): the right parotid lies at low second index, the brainstem above the cord
PLACES = {
    "Brainstem": (60, 64, 40), "SpinalCord": (70, 64, 80), "RightParotid": (60, 50, 45), "LeftParotid": (60, 80, 45),
    "Mandible": (40, 64, 50), "PTV70": (50, 70, 60),
}  # fmt: skip


@pytest.fixture(scope="module")
def openkbp_patient(tmp_path_factory):
    root = tmp_path_factory.mktemp("openkbp")
    folder = root / "train-pats" / "pt_2"
    ct = np.zeros(convert_openkbp.GRID, np.int16)
    ct[30:90, 40:90, 20:86] = 1040
    ct[60, 64, 40] = 2500
    ct[60, 50, 45] = 3500
    write_table(folder / "ct.csv", ct)
    for name, place in PLACES.items():
        write_table(folder / f"{name}.csv", block(place))
    (folder / "voxel_dimensions.csv").write_text("4.0\n3.0\n2.5\n")
    target = root / "headneck_ct"
    target.mkdir()
    convert_openkbp.convert(find("openkbp"), root, target, cases=["hn_002"])
    return root, target


def test_openkbp_gives_a_decathlon_folder_with_targets(openkbp_patient):
    _, target = openkbp_patient
    assert names_in(target) == [
        "dataset.json", "imagesTr/hn_002.nii.gz", "labelsTr/hn_002.nii.gz", "landmarks.csv", "targetsTr/hn_002.nii.gz",
    ]  # fmt: skip
    assert check_arranged(find("openkbp"), target).problems == []
    entry = json.loads((target / "dataset.json").read_text())["training"][0]
    assert entry["source"] == "train-pats/pt_2" and entry["crop_y0_x0_z0_z1"] == [23, 33, 31, 86]


def test_openkbp_axes_units_and_crop(openkbp_patient):
    _, target = openkbp_patient
    image, organs = (nibabel.load(target / kind / "hn_002.nii.gz") for kind in ("imagesTr", "labelsTr"))
    assert image.shape == (64, 64, 55) and nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    np.testing.assert_allclose(image.header.get_zooms(), (3.0, 4.0, 2.5))
    centre = image.affine @ [*(np.array(image.shape) - 1) / 2, 1]
    np.testing.assert_allclose(centre[:3], 0, atol=1e-5)
    values = np.asarray(image.dataobj)
    assert image.get_data_dtype() == np.int16 and values.min() == -1000 and values.max() == 2000
    drawn = np.asarray(organs.dataobj)

    def middle(name):
        return np.argwhere(drawn == convert_openkbp.ORGANS.index(name) + 1).mean(axis=0)

    assert middle("RightParotid")[0] > middle("LeftParotid")[0], "right grows along x"
    assert middle("Mandible")[1] > middle("SpinalCord")[1], "front grows along y"
    assert middle("Brainstem")[2] > middle("SpinalCord")[2], "up grows along z"
    assert values[tuple(middle("Brainstem").astype(int))] == 1500, "HU = value - 1000"
    used = np.flatnonzero(((drawn > 0) | (values > -1000)).any(axis=(0, 1)))
    assert drawn.shape[2] - 1 - np.flatnonzero(drawn.any(axis=(0, 1)))[-1] == 8, "8 slices above what is drawn"
    assert np.flatnonzero(drawn.any(axis=(0, 1)))[0] == 4 and used[0] == 0, "below, the scan ends earlier"


def test_openkbp_targets_and_landmarks(openkbp_patient):
    _, target = openkbp_patient
    assert set(np.unique(np.asarray(nibabel.load(target / "targetsTr/hn_002.nii.gz").dataobj))) == {0, 3}
    with (target / "landmarks.csv").open() as stream:
        rows = {row["structure"]: row for row in csv.DictReader(stream)}
    assert list(rows) == list(convert_openkbp.NEEDED) and rows["Brainstem"]["voxels"] == "27"
    cord = nibabel.load(target / "labelsTr/hn_002.nii.gz")
    voxel = np.argwhere(np.asarray(cord.dataobj) == 2).mean(axis=0)
    mm = cord.affine[:3, :3] @ voxel + cord.affine[:3, 3]
    np.testing.assert_allclose([float(rows["SpinalCord"][a]) for a in ("x_mm", "y_mm", "z_mm")], mm, atol=0.006)
    np.testing.assert_allclose([float(rows["SpinalCord"][a]) for a in "ijk"], voxel, atol=0.006)


def test_openkbp_is_a_cohort(openkbp_patient, monkeypatch):
    from medssl_nb.data.splits import Split

    monkeypatch.setattr("medssl_nb.data.real.shipped_split", lambda name: Split(("hn_002",), (), (), (("hn_002",),)))
    case = headneck_ct(openkbp_patient[1]).cases["hn_002"]
    assert tuple(case.image().shape) == (1, 64, 64, 55) and case.read("target").max() == 3
    assert set(case.landmarks_mm) == set(convert_openkbp.NEEDED)


def test_openkbp_takes_the_cases_of_the_fixed_split(tmp_path):
    (tmp_path / "train-pats" / "pt_2").mkdir(parents=True)
    with pytest.raises(FetchError, match="61 patients are missing, such as pt_4"):
        arrange(find("openkbp"), tmp_path, tmp_path / "ready")


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("Mandible.csv", None, "lacks Mandible"),
        ("ct.csv", ",data\n99999999,1\n", "outside a grid"),
        ("ct.csv", ",data\n-1,1\n", "outside a grid"),
        ("ct.csv", ",data\nnot,a number\n", "not a table of voxels"),
        ("ct.csv", "", "empty"),
        ("voxel_dimensions.csv", "1 2", "three sizes"),
        ("voxel_dimensions.csv", "1\n0\n2\n", "above 0 mm"),
    ],
)
def test_openkbp_refuses_damaged_tables(openkbp_patient, tmp_path, file, content, problem):
    root, _ = openkbp_patient
    link_tree(root / "train-pats", tmp_path / "in" / "train-pats")
    path = tmp_path / "in" / "train-pats" / "pt_2" / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    (tmp_path / "ready").mkdir()
    with pytest.raises(FetchError, match=problem):
        convert_openkbp.convert(find("openkbp"), tmp_path / "in", tmp_path / "ready", cases=["hn_002"])


def test_openkbp_overlaps_go_to_the_later_structure(tmp_path):
    write_table(tmp_path / "PTV56.csv", block((50, 50, 50), 5))
    write_table(tmp_path / "PTV70.csv", block((50, 50, 50), 3))
    merged = convert_openkbp.merge_structures(tmp_path, convert_openkbp.TARGETS)
    assert (merged == 3).sum() == 27 and (merged == 1).sum() == 125 - 27


# ---------------------------------------------------------------- open MS data
def ms_patient(root, number="01", affine=None, shape=(40, 44, 60)):
    affine = np.diag([-1.0, 1, 1, 1]) if affine is None else affine  # stored left to right reversed
    brain = np.zeros(shape, np.uint8)
    brain[8:32, 6:38, 9:51] = 1
    change = np.zeros(shape, np.uint8)
    change[10:16, 10:16, 15:27] = 1
    grey = np.linspace(0, 900, brain.size).reshape(shape).astype(np.float32) + 100
    for name, array in (("brainmask", brain), ("gt", change), ("study1_FLAIR", grey), ("study2_FLAIR", grey * 2)):
        nifti(root / f"patient{number}_{name}.nii.gz", array, affine)


def test_open_ms(tmp_path):
    ms_patient(tmp_path / "in")
    arrange_into = tmp_path / "ready"
    arrange(find("open_ms"), tmp_path / "in", arrange_into)
    assert check_arranged(find("open_ms"), arrange_into).problems == []
    cohort = ms_lesions(arrange_into)
    assert sorted(cohort.cases) == ["ms_01_baseline", "ms_01_followup"]
    case = cohort.cases["ms_01_baseline"]
    image, brain, lesion = case.image(), case.read("brain"), case.read("lesion")
    np.testing.assert_allclose(np.asarray(image.pixdim), (1, 1, 3), atol=1e-5)
    assert tuple(image.shape[1:3]) == (24 + 4, 32 + 4), "cut to the brain and 2 voxels around it"
    assert image.dtype.__str__() == "torch.int16" and (image[brain == 0] == 0).all() and image.max() > 500
    facts = json.loads((arrange_into / "cases.json").read_text())["ms_01"]
    assert facts["original_ml"] == pytest.approx(0.43, abs=0.01)
    assert facts["lesion_change_ml"] == pytest.approx(0.43, rel=0.15)
    # the lesion keeps its place in mm: voxels 10..15 of an axis stored reversed are -15..-10 mm
    centre = np.asarray(lesion.affine) @ [*np.argwhere(lesion[0].numpy()).mean(axis=0), 1]
    np.testing.assert_allclose(centre[:3], (-12.5, 12.5, 20.5), atol=1.5)


def test_open_ms_refuses_what_does_not_fit(tmp_path):
    (tmp_path / "ready").mkdir()
    with pytest.raises(FetchError, match="no patientNN_brainmask"):
        convert_open_ms.convert(tmp_path, tmp_path / "ready")
    ms_patient(tmp_path / "in")
    nifti(tmp_path / "in" / "patient01_gt.nii.gz", np.zeros((5, 5, 5), np.uint8))
    with pytest.raises(FetchError, match="gt of patient 01 does not lie on the grid"):
        convert_open_ms.convert(tmp_path / "in", tmp_path / "ready")
    (tmp_path / "in" / "patient01_gt.nii.gz").write_bytes(b"version https://git-lfs")
    with pytest.raises(FetchError, match=r"patient01_gt\.nii\.gz is missing or damaged"):
        convert_open_ms.convert(tmp_path / "in", tmp_path / "ready")
    ms_patient(tmp_path / "in")
    nifti(tmp_path / "in" / "patient01_brainmask.nii.gz", np.zeros((40, 44, 60), np.uint8), np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(FetchError, match="brain mask of patient 01 is empty"):
        convert_open_ms.convert(tmp_path / "in", tmp_path / "ready")


def test_small_grey_ranges_stay_fractions():
    assert convert_open_ms._whole_numbers(np.array([0.0, 0.7])).dtype == np.float32
    assert convert_open_ms._whole_numbers(np.array([0.0, 70000.0])).dtype == np.float32
    assert convert_open_ms._whole_numbers(np.array([0.0, 700.4])).tolist() == [0, 700]


# ---------------------------------------------------------------- TotalSegmentator's sample scans
CLASS_MAP = """class_map = {
    # v2
    "total": {1: "spleen", 5: "liver", 52: "aorta"}, "total_mr": {1: "spleen", 23: "aorta"}}
"""


def totalsegmentator_files(root):
    scan(root / "example_ct.nii.gz")
    label(root / "example_seg.nii.gz", (0, 1, 5, 52, 99))
    scan(root / "example_mr_sm.nii.gz")
    label(root / "example_seg_mr.nii.gz", (0, 1, 23))
    (root / "map_to_binary.py").write_text(f"import os\n{CLASS_MAP}raise SystemExit('never run')\n")


def test_totalsegmentator_samples(tmp_path):
    totalsegmentator_files(tmp_path / "in")
    arrange(find("totalsegmentator_samples"), tmp_path / "in", tmp_path / "ready")
    assert check_arranged(find("totalsegmentator_samples"), tmp_path / "ready").problems == []
    cohort = torso(tmp_path / "ready")
    ct, mr = cohort.cases["ct_abdomen_01"], cohort.cases["mr_abdomen_03"]
    assert (ct.modality, mr.modality) == ("CT", "MR")
    assert (
        ct.structure_names[5] == "liver"
        and ct.structure_names[99] == "structure 99"
        and mr.structure_names[23] == "aorta"
    )
    aorta = next(n for n, name in cohort.label_names.items() if name == "aorta")
    assert (ct.label() == aorta).any() and (mr.label() == aorta).any()


@pytest.mark.parametrize(
    "text", ["x = 1", "class_map = {", "class_map = open('/etc/passwd')", 'class_map = {"total": {}}']
)
def test_a_class_map_is_read_as_data(tmp_path, text):
    (tmp_path / "map_to_binary.py").write_text(text)
    with pytest.raises(FetchError, match=r"does not list the label names|has no class_map"):
        convert_totalsegmentator.read_class_map(tmp_path / "map_to_binary.py")


def test_a_damaged_sample_scan(tmp_path):
    totalsegmentator_files(tmp_path / "in")
    (tmp_path / "in" / "example_seg.nii.gz").write_bytes(b"junk")
    (tmp_path / "ready").mkdir()
    with pytest.raises(FetchError, match=r"example_seg\.nii\.gz"):
        convert_totalsegmentator.convert(tmp_path / "in", tmp_path / "ready")


def test_our_own_layouts_are_checked(tmp_path):
    totalsegmentator_files(tmp_path / "in")
    (tmp_path / "ready").mkdir()
    convert_totalsegmentator.convert(tmp_path / "in", tmp_path / "ready")
    (tmp_path / "ready" / "labels" / "mr_abdomen_03.nii.gz").unlink()
    found = check_arranged(find("totalsegmentator_samples"), tmp_path / "ready")
    assert found.problems == ["case mr_abdomen_03 lacks its image or its label map"]
    (tmp_path / "ready" / "labels.json").unlink()
    assert "neither" in check_arranged(find("totalsegmentator_samples"), tmp_path / "ready").problems[0]


def test_linked_folders_of_the_user_are_followed_once(tmp_path):
    source, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "scan.nii.gz").write_bytes(b"scan")
    (elsewhere / "deep" / "._scan.nii.gz").write_bytes(b"left behind")
    source.mkdir()
    (source / "img").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(source)
    link_tree(source, tmp_path / "target")
    found = sorted(
        p.relative_to(tmp_path / "target").as_posix() for p in (tmp_path / "target").rglob("*") if p.is_file()
    )
    assert found == ["img/deep/scan.nii.gz"]
