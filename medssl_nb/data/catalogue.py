"""Which public data sets the project knows: one table, from which the scripts of `data_scripts/` work.

Every fact in it comes from somewhere: the owner's page or repository, an installed library, or another project's code
that uses the data. `DataSet.from_memory` names the facts that do not, `None` stands for what is not recorded. The
addresses were read, not tried.

`python -m medssl_nb.data.catalogue data_scripts` writes the scripts and the table for readers.
"""

from dataclasses import dataclass
from pathlib import Path

from medssl_nb.data.download import RemoteFile


@dataclass(frozen=True)
class Direct:
    """Files with known addresses. `source`: where the addresses, and the checksums if any, were read.

    `packed_on_request`: the server makes the archive anew each time; its bytes may change while its content does not.
    """

    files: tuple[RemoteFile, ...]
    source: str
    packed_on_request: bool = False


@dataclass(frozen=True)
class Zenodo:
    """Files of a Zenodo record. Addresses, sizes and MD5 are asked of Zenodo at download time."""

    record: int
    names: tuple[str, ...]
    source: str
    server: str = "https://zenodo.org"


@dataclass(frozen=True)
class GitHub:
    """Folders of a GitHub repository at one commit, fetched as an archive that GitHub packs on request."""

    repository: str
    commit: str
    folders: tuple[str, ...]
    source: str
    server: str = "https://codeload.github.com"

    @property
    def file(self) -> RemoteFile:
        name = f"{self.repository.split('/')[1]}-{self.commit[:12]}.tar.gz"
        return RemoteFile(f"{self.server}/{self.repository}/tar.gz/{self.commit}", name)


@dataclass(frozen=True)
class ByHand:
    """What a person fetches with a browser. `files`: what to fetch; `account`: whether an account or form is needed."""

    files: str
    account: bool


@dataclass(frozen=True)
class Count:
    """How many files match a pattern below the set's folder. `number` None: at least one.

    `sure` False: the number is from memory, so another one is reported but does not stop anything.
    """

    pattern: str
    number: int | None = None
    sure: bool = True


@dataclass(frozen=True)
class Pairs:
    """How images and label maps of a set find each other, so that they can be put in Decathlon layout.

    Attributes:
        image: regular expression for the path of an image; its groups fill the other fields. Group `subject` names the
            person where one has several scans.
        label: path of the label map.
        case: name of the case.
        modality: as in a Decathlon `dataset.json`.
        labels: names of the label values 0, 1, 2, ...
        official_test: regular expression for paths of the owner's own test part, if it has labels.
    """

    image: str
    label: str
    modality: str
    labels: tuple[str, ...]
    case: str = "{case}"
    official_test: str | None = None


@dataclass(frozen=True)
class DataSet:
    """One row of the table.

    Attributes:
        name: also the name of the script.
        title, cases, size: for people; size as packed.
        page: the owner's page.
        access: how it is fetched.
        licence, citation: None where not recorded.
        layout: what must be there before anything is arranged.
        arrangement: what is done with it: "as it is", "decathlon" (is in that layout), "pairs" (is put in that
            layout), or a conversion of its own: "openkbp", "open_ms", "totalsegmentator_samples".
        folder: name in the data folder, default `name`; what `load_cohort` is given.
        labels: label values of the maps that `label_files` matches; () where not recorded.
        from_memory: facts of this row that were not re-read in a source.
        notes: what a user should know before using it.
        tier: A: one command, checksum on record. B: no account, checksum kept from the first download on, or fetched by
            hand. C: account or signed terms. Follows from `access` where not given.
    """

    name: str
    title: str
    cases: str
    page: str
    access: Direct | Zenodo | GitHub | ByHand
    licence: str | None
    citation: str | None
    layout: tuple[Count, ...]
    arrangement: str = "as it is"
    size: str | None = None
    folder: str = ""
    pairs: Pairs | None = None
    label_files: str | None = None
    labels: tuple[int, ...] = ()
    from_memory: tuple[str, ...] = ()
    notes: str = ""
    tier: str = ""

    def __post_init__(self):
        object.__setattr__(self, "folder", self.folder or self.name)
        by_form = isinstance(self.access, ByHand) and self.access.account
        object.__setattr__(self, "tier", self.tier or ("C" if by_form else "B"))

    @property
    def command(self) -> str:
        return f"python data_scripts/{self.name}.py"


def find(name: str) -> DataSet:
    """The row `name`, by script name or by folder name."""
    for data_set in DATA_SETS:
        if name in (data_set.name, data_set.folder):
            return data_set
    raise ValueError(f"no data set {name!r}; known are {', '.join(d.name for d in DATA_SETS)}.")


def command_for(cohort: str) -> str:
    """The command that fetches a cohort, such as "python data_scripts/openkbp.py" for "headneck_ct"."""
    return find(cohort).command


# ---------------------------------------------------------------- the Medical Segmentation Decathlon
_MSD_SERVER = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
_MSD_CITATION = (
    "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 4128 (2022); "
    "Simpson et al., arXiv 1902.09063 (2019)"
)


def _decathlon(name, task, title, labelled, unlabelled, size, md5, **more) -> DataSet:
    sure = name == "msd_hippocampus"  # its 260 were counted in the files
    return DataSet(
        name,
        f"Medical Segmentation Decathlon {task.split('_')[0]}: {title}",
        f"{labelled} labelled, {unlabelled} unlabelled",
        "http://medicaldecathlon.com",
        Direct((RemoteFile(f"{_MSD_SERVER}/{task}.tar", f"{task}.tar", md5=md5),), "MONAI 1.6.1, DecathlonDataset"),
        "CC BY-SA 4.0",
        _MSD_CITATION,
        (
            Count("dataset.json", 1),
            Count("imagesTr/*.nii.gz", labelled, sure),
            Count("labelsTr/*.nii.gz", labelled, sure),
            Count("imagesTs/*.nii.gz", unlabelled, False),
        ),
        "decathlon",
        size,
        tier="A",
        from_memory=("page", "number of unlabelled cases", "size") + (() if sure else ("number of labelled cases",)),
        **more,
    )


_DECATHLON = (
    _decathlon(
        "msd_brain_tumour", "Task01_BrainTumour", "4-channel brain MRI; oedema, non-enhancing and enhancing tumour",
        484, 266, "7.1 GB", "240a19d752f0d9e9101544901065d872",
        notes="Open stand-in for BraTS 2018 (BraTS 2016/17 data).",
    ),
    _decathlon(
        "msd_heart", "Task02_Heart", "cardiac MRI; left atrium", 20, 10, "0.4 GB", "06ee59366e1e5124267b774dbd654057"
    ),
    _decathlon(
        "msd_liver", "Task03_Liver", "CT; liver, tumour", 131, 70, "27 GB", "a90ec6c4aa7f6a3d087205e23d4e6397"
    ),
    _decathlon(
        "msd_hippocampus", "Task04_Hippocampus", "T1 MRI; anterior and posterior hippocampus",
        260, 130, "28 MB", "9d24dba78a72977dbd1d2e110310f31b", folder="hippocampus",
        notes="Intensities differ by a factor of 10 000 between files: normalise each volume by itself. Cases 2k-1 and "
        "2k are the two sides of one head (inferred from intensities): split by (number + 1) // 2.",
    ),
    _decathlon(
        "msd_prostate", "Task05_Prostate", "T2 and ADC MRI; peripheral and transition zone",
        32, 16, "0.23 GB", "35138f08b1efaef89d7424d2bcc928db",
    ),
    _decathlon("msd_lung", "Task06_Lung", "CT; tumour", 63, 32, "8.5 GB", "8afd997733c7fc0432f71255ba4e52dc"),
    _decathlon(
        "msd_pancreas", "Task07_Pancreas", "CT; pancreas, tumour",
        281, 139, "11.5 GB", "4f7080cfca169fa8066d17ce6eb061e4",
    ),
    _decathlon(
        "msd_hepatic_vessel", "Task08_HepaticVessel", "CT; vessel, tumour",
        303, 140, "8.7 GB", "641d79e80ec66453921d997fbf12a29c",
    ),
    _decathlon("msd_spleen", "Task09_Spleen", "CT; spleen", 41, 20, "1.5 GB", "410d4a301da4e5b2f6f86ec3ddba524e"),
    _decathlon("msd_colon", "Task10_Colon", "CT; tumour", 126, 64, "5.8 GB", "bad7a188931dc2f6acf72b08eb6202d0"),
)  # fmt: skip

# ---------------------------------------------------------------- small sets that become cohorts of the lessons
_OPENKBP_CITATION = (
    "Babier et al., OpenKBP: the open-access knowledge-based planning grand challenge and dataset, Medical Physics 48, "
    "5549-5561 (2021)"
)
_MS_COMMIT = "65704901f60650824565aa5a4818611aa89716f4"
_MS_RAW = f"https://raw.githubusercontent.com/muschellij2/open_ms_data/{_MS_COMMIT}"
MS_PATIENTS = ("01", "03", "12", "19")
MS_FILES = ("study1_FLAIR", "study2_FLAIR", "brainmask", "gt")
_TOTALSEGMENTATOR_CITATION = (
    "Wasserthal et al., TotalSegmentator, Radiology: Artificial Intelligence 5(5), e230024 (2023)"
)
_TOTALSEGMENTATOR_RAW = (
    "https://raw.githubusercontent.com/wasserth/TotalSegmentator/0e65a448d557382b1e925276212b3bec7f5aff83"
)

_LESSON_SETS = (
    DataSet(
        "openkbp",
        "OpenKBP head-and-neck planning CT: 5 to 7 organs, radiotherapy targets, landmarks",
        "62 of 340 (a fixed list; all have brainstem, cord, both parotids and mandible)",
        "https://github.com/ababier/open-kbp",
        GitHub(
            "ababier/open-kbp",
            "ce625e62f3b04203f22bd9d1634f3e8fb0245e46",
            ("provided-data",),
            "the repository",
        ),
        "MIT (of the repository; it states no separate terms for the scans)",
        _OPENKBP_CITATION,
        (Count("*-pats/pt_*/ct.csv", 340), Count("*-pats/pt_*/voxel_dimensions.csv", 340)),
        "openkbp",
        "1.7 GB unpacked",
        folder="headneck_ct",
        notes="A target is tumour or nodes with a safety margin, not a drawn lesion. Where larynx or oesophagus is "
        "missing it was not drawn. Do not render skin surfaces of these patients.",
    ),
    DataSet(
        "open_ms",
        "Open MS data, University of Ljubljana: brain FLAIR at two times, change of lesions drawn",
        f"{len(MS_PATIENTS)} of 20 patients ({', '.join(MS_PATIENTS)})",
        "https://github.com/muschellij2/open_ms_data",
        Direct(
            tuple(
                RemoteFile(
                    f"{_MS_RAW}/longitudinal/coregistered/patient{patient}/{file}.nii.gz",
                    f"patient{patient}_{file}.nii.gz",
                )
                for patient in MS_PATIENTS
                for file in MS_FILES
            ),
            "the repository's README (file names) and file list (folder)",
        ),
        "CC BY",
        "Lesjak, Pernuš, Likar, Špiclin, Validation of white-matter lesion change detection methods on a novel "
        "publicly available MRI image database, Neuroinformatics (2016)",
        tuple(Count(f"patient*_{file}.nii.gz", len(MS_PATIENTS)) for file in MS_FILES),
        "open_ms",
        folder="ms_lesions",
        notes="Old, unchanged lesions are not marked: the label is the change between the two times.",
    ),
    DataSet(
        "totalsegmentator_samples",
        "Sample scans of the TotalSegmentator repository: one abdominal CT, one abdominal MR, many organs",
        "2",
        "https://github.com/wasserth/TotalSegmentator",
        Direct(
            (
                *(
                    RemoteFile(f"{_TOTALSEGMENTATOR_RAW}/tests/reference_files/{name}", name)
                    for name in (
                        "example_ct.nii.gz",
                        "example_seg.nii.gz",
                        "example_mr_sm.nii.gz",
                        "example_seg_mr.nii.gz",
                    )
                ),
                RemoteFile(
                    f"{_TOTALSEGMENTATOR_RAW}/totalsegmentator/map_to_binary.py", "map_to_binary.py"
                ),  # names of the label values; read as data, never run
            ),
            "the repository's file list",
        ),
        "Apache-2.0",
        f"{_TOTALSEGMENTATOR_CITATION}; for MR: Akinci D'Antonoli et al., Radiology 314(2) (2025)",
        (Count("example_*.nii.gz", 4), Count("map_to_binary.py", 1)),
        "totalsegmentator_samples",
        folder="torso",
        notes="Labels are the output of a network, not drawn by experts: for showing and testing, not for scores.",
    ),
)

# ---------------------------------------------------------------- used by the papers behind the lessons
_FLARE_ORGANS = (
    "background", "liver", "right kidney", "spleen", "pancreas", "aorta", "inferior vena cava", "right adrenal gland",
    "left adrenal gland", "gallbladder", "oesophagus", "stomach", "duodenum", "left kidney",
)  # fmt: skip
_ACDC_SERVER = "https://humanheart-project.creatis.insa-lyon.fr/database/api/v1"
_ACCOUNT, _OPEN = True, False

_LD_RAW = (
    "https://raw.githubusercontent.com/HuaiChen-1994/LDLearning/919506c0f73cce47aa8c5abd45c587afe800d008/"
    "dataset/retinal_images/prior%20knowledge"
)

_PAPER_SETS = (
    DataSet(
        "flare22",
        "FLARE22, labelled part: abdominal CT, 13 organs",
        "50",
        "https://zenodo.org/records/7860267",
        Zenodo(7860267, ("FLARE22Train.zip",), "code of several projects that load it"),
        "research use (redistributions contradict each other; the challenge's rules page decides)",
        None,
        (Count("images/FLARE22_Tr_*_0000.nii.gz", 50), Count("labels/FLARE22_Tr_*.nii.gz", 50)),
        "pairs",
        pairs=Pairs(r"images/(?P<case>FLARE22_Tr_\d{4})_0000\.nii\.gz", "labels/{case}.nii.gz", "CT", _FLARE_ORGANS),
    ),
    DataSet(
        "flare22_unlabelled",
        "FLARE22, unlabelled part: abdominal CT",
        "2,000",
        "https://flare22.grand-challenge.org",
        ByHand("the unlabelled cases, after joining the challenge", _ACCOUNT),
        None,
        None,
        (Count("**/Case_*_0000.nii.gz", 2000),),
        size="several hundred GB",
        from_memory=("size",),
        notes="Whether this part is still served is not settled.",
    ),
    DataSet(
        "btcv",
        "BTCV, Beyond the Cranial Vault: abdominal CT, 13 organs",
        "30 labelled, 20 test",
        "https://www.synapse.org/#!Synapse:syn3193805",
        ByHand("RawData.zip of the abdomen task, after accepting the terms", _ACCOUNT),
        "terms on the page",
        None,
        (Count("img/img*.nii.gz", 30), Count("label/label*.nii.gz", 30)),
        "pairs",
        "1.5 GB",
        pairs=Pairs(
            r"img/img(?P<id>\d{4})\.nii\.gz",
            "label/label{id}.nii.gz",
            "CT",
            ("background", *(f"organ {n}" for n in range(1, 14))),
            case="btcv_{id}",
        ),
        from_memory=("archive name", "size", "licence"),
        notes="The names of the 13 label values are not recorded here; take them from the page.",
    ),
    DataSet(
        "acdc",
        "ACDC: cine cardiac MRI; right ventricle, myocardium, left ventricle",
        "100 training and 50 test patients, two labelled frames each",
        "https://www.creatis.insa-lyon.fr/Challenge/acdc",
        Direct(
            (RemoteFile(f"{_ACDC_SERVER}/folder/637218e573e9f0047faa00fc/download", "ACDC.zip"),),
            "instructions of another project",
            packed_on_request=True,
        ),
        "CC BY-NC-SA 4.0 (as a redistribution restates it)",
        "Bernard et al., Deep learning techniques for automatic MRI cardiac multi-structures segmentation and "
        "diagnosis: is the problem solved?, IEEE Transactions on Medical Imaging 37(11), 2514-2525 (2018)",
        (
            Count("training/patient*/patient*_frame*_gt.nii.gz", 200),
            Count("testing/patient*/patient*_frame*_gt.nii.gz", 100, False),
        ),
        "pairs",
        "2.3 GB",
        pairs=Pairs(
            r"(?P<place>.+)/(?P<case>(?P<subject>patient\d{3})_frame\d\d)\.nii\.gz",
            "{place}/{case}_gt.nii.gz",
            "MRI",
            ("background", "right ventricle", "myocardium", "left ventricle"),
            official_test=r"^testing/",
        ),
        from_memory=("size",),
    ),
    DataSet(
        "promise12",
        "PROMISE12: T2 prostate MRI, whole gland",
        "50 training, 30 test",
        "https://zenodo.org/records/8026660",
        Zenodo(8026660, ("training_data.zip", "test_data.zip"), "code of several projects that load it"),
        "research terms of the challenge, promise12.grand-challenge.org",
        None,
        (Count("training_data/**/Case??.mhd", 50), Count("training_data/**/Case??_segmentation.mhd", 50)),
        from_memory=("licence",),
        notes="MetaImage files (.mhd, .raw): convert them to NIfTI before use.",
    ),
    DataSet(
        "mmwhs",
        "MM-WHS: whole heart, 7 structures, CT and MR",
        "20 CT and 20 MR labelled, 40 and 40 test",
        "https://zmiclab.github.io/zxh/0/mmwhs",
        ByHand("the CT and MR training archives, after the signed form", _ACCOUNT),
        "research only",
        None,
        (
            Count("**/ct_train_*_image.nii.gz", 20, False),
            Count("**/ct_train_*_label.nii.gz", 20, False),
            Count("**/mr_train_*_image.nii.gz", 20, False),
            Count("**/mr_train_*_label.nii.gz", 20, False),
        ),
        label_files="**/*_train_*_label.nii.gz",
        labels=(0, 205, 420, 500, 550, 600, 820, 850),
        from_memory=("number of cases", "licence", "label values", "names of the MR files"),
    ),
    DataSet(
        "hecktor",
        "HECKTOR 2022: head-and-neck FDG-PET/CT; primary tumour, nodes",
        "524 training",
        "https://hecktor.grand-challenge.org",
        ByHand("the 2022 training set, after the organisers approve the request", _ACCOUNT),
        "end user agreement; no redistribution",
        None,
        (
            Count("imagesTr/*__CT.nii.gz", 524),
            Count("imagesTr/*__PT.nii.gz", 524),
            Count("labelsTr/*.nii.gz", 524),
        ),
        label_files="labelsTr/*.nii.gz",
        labels=(0, 1, 2),
    ),
    DataSet(
        "brats2018",
        "BraTS 2018: 4-contrast brain MRI; tumour parts",
        "285 training (210 high grade, 75 low grade), 66 validation",
        "https://www.med.upenn.edu/sbia/brats2018",
        ByHand("the 2018 training data, after registration", _ACCOUNT),
        "research use, registration",
        None,
        tuple(Count(f"**/Brats18_*_{kind}.nii.gz", 285, False) for kind in ("t1", "t1ce", "t2", "flair", "seg")),
        label_files="**/Brats18_*_seg.nii.gz",
        labels=(0, 1, 2, 4),
        from_memory=("page", "number of cases", "licence", "layout"),
        notes="Where this edition is still served is not settled. Open stand-in: msd_brain_tumour.",
    ),
    DataSet(
        "busi",
        "BUSI: breast ultrasound, 2D; benign, malignant, normal",
        "780 images",
        "https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
        Direct(
            (RemoteFile("https://scholar.cu.edu.eg/Dataset_BUSI.zip", "Dataset_BUSI.zip"),), "code of other projects"
        ),
        "CC BY (with the data article)",
        None,
        (Count("benign/*_mask.png"), Count("malignant/*_mask.png"), Count("normal/*.png")),
        from_memory=("licence",),
        notes="2D only: outside the 3D lessons.",
    ),
    DataSet(
        "nih_chestxray",
        "NIH ChestX-ray14: 2D chest X-ray",
        "112,120 images",
        "https://nihcc.app.box.com/v/ChestXray-NIHCC",
        ByHand("the archives in folder `images`", _OPEN),
        "no restriction stated; cite the owners",
        None,
        (Count("**/????????_???.png", 112120, False),),
        size="42 GB",
        from_memory=("number of images", "size", "licence"),
        notes="2D only: outside the 3D lessons.",
    ),
    DataSet(
        "jsrt",
        "JSRT with SCR: 2D chest X-ray; lungs, heart, clavicles",
        "247 images",
        "http://db.jsrt.or.jp (images), https://www.isi.uu.nl/Research/Databases/SCR (outlines)",
        ByHand("the images and the SCR outlines", _ACCOUNT),
        "research and education only, redistribution prohibited",
        None,
        (Count("**/*.IMG", 247),),
        from_memory=("capital letters of .IMG",),
        notes="2D only: outside the 3D lessons.",
    ),
    DataSet(
        "siim_pneumothorax",
        "SIIM-ACR pneumothorax: 2D chest X-ray, lesions",
        "about 12,000 images",
        "https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation",
        ByHand("the competition's data, after accepting its rules", _ACCOUNT),
        "competition rules",
        None,
        (Count("**/*.dcm"), Count("**/*.csv")),
        from_memory=("number of images",),
        notes="2D only: outside the 3D lessons.",
    ),
    DataSet(
        "eyepacs",
        "Kaggle Diabetic Retinopathy (EyePACS): 2D fundus",
        "35,126 training images",
        "https://www.kaggle.com/c/diabetic-retinopathy-detection",
        ByHand("the training images, after accepting the rules", _ACCOUNT),
        "research, cite the owners",
        None,
        (Count("**/*_left.jpeg"), Count("**/*_right.jpeg")),
        size="80 GB",
        from_memory=("number of images", "size"),
        notes="2D only: outside the 3D lessons. The parts of a split archive must be joined and unpacked by hand.",
    ),
    DataSet(
        "drive",
        "DRIVE: 2D fundus, vessels",
        "40 images",
        "https://drive.grand-challenge.org",
        ByHand("training and test images", _ACCOUNT),
        None,
        None,
        (Count("**/*.tif"),),
        from_memory=("page", "number of images", "layout"),
        notes="2D only: outside the 3D lessons.",
    ),
    DataSet(
        "rite",
        "RITE: 2D fundus, arteries and veins drawn on DRIVE",
        "40 images",
        "https://medicine.uiowa.edu/eye/rite-dataset",
        ByHand("the archive, after the form", _ACCOUNT),
        "cite the owners",
        None,
        (Count("**/*.tif"), Count("**/*.png")),
        from_memory=("number of images", "form"),
        notes="2D only: outside the 3D lessons.",
    ),
    DataSet(
        "stare",
        "STARE: 2D fundus, vessels drawn by two people",
        "20 images",
        "https://cecas.clemson.edu/~ahoover/stare",
        Direct(
            tuple(
                RemoteFile(f"http://cecas.clemson.edu/~ahoover/stare/probing/{name}", name, sha256=sha256)
                for name, sha256 in (
                    ("stare-images.tar", "5f7b509b6067cad4f1be84933145d783de9ec087b3eaaf4db0103dd0144dd433"),
                    ("labels-ah.tar", "ebf2f1e17ca955f24579d9edd990e2dae79a5c82def69f0985d8e24f826ddd2f"),
                    ("labels-vk.tar", "47474a701536b0cfdb369fdce012be36141e9f44d80387f0179446b5cb0f5576"),
                )
            ),
            "torch_em, light_datasets.medical.stare",
        ),
        "research, cite the owners",
        "Hoover, Kouznetsova, Goldbaum, Locating blood vessels in retinal images by piecewise threshold probing of a "
        "matched filter response, IEEE Transactions on Medical Imaging 19(3), 203-210 (2000)",
        (
            Count("stare-images/**/*.ppm*", 20, False),
            Count("labels-ah/**/*.ah.ppm*", 20, False),
            Count("labels-vk/**/*.vk.ppm*", 20, False),
        ),
        from_memory=("number of images", "full citation"),
        notes="2D only: outside the 3D lessons.",
    ),
    DataSet(
        "chase_db1",
        "CHASE_DB1: 2D fundus of children, vessels",
        "28 images",
        "https://blogs.kingston.ac.uk/retinal/chasedb1",
        Direct(
            (RemoteFile("https://researchdata.kingston.ac.uk/96/1/CHASEDB1.zip", "CHASEDB1.zip"),),
            "code of other projects",
        ),
        "CC BY 4.0 (as other projects restate it)",
        None,
        (Count("**/Image_*.jpg", 28, False),),
        from_memory=("number of images", "file names"),
        notes="2D only: outside the 3D lessons.",
    ),
    DataSet(
        "hrf",
        "HRF: 2D fundus in high resolution, vessels",
        "45 images",
        "https://www5.cs.fau.de/research/data/fundus-images",
        Direct(
            (
                RemoteFile(
                    "https://www5.cs.fau.de/fileadmin/research/datasets/fundus-images/all.zip",
                    "all.zip",
                    sha256="a914d02cda161b7f33f25d0397c276d50e9a6cbc705e9b364a54f0adafed57e4",
                ),
            ),
            "code of two other projects that agree",
        ),
        "CC BY 4.0 (as another project restates it)",
        None,
        (Count("images/*", 45, False), Count("manual1/*.tif", 45, False), Count("mask/*.tif", 45, False)),
        size="73 MB",
        from_memory=("number of images",),
        notes="2D only: outside the 3D lessons.",
    ),
    DataSet(
        "drishti_gs",
        "Drishti-GS1: 2D fundus; optic disc and cup",
        "101 images (50 + 51)",
        "https://cvit.iiit.ac.in/projects/mip/drishti-gs",
        ByHand("the training and test archives, after the form", _ACCOUNT),
        "free with citation",
        None,
        (Count("**/*.png", None),),
        from_memory=("number of images", "form"),
        notes="2D only: outside the 3D lessons.",
    ),
    DataSet(
        "idrid",
        "IDRiD: 2D fundus; lesions, optic disc, disc and fovea centres",
        "81 with lesion masks, 516 with landmarks",
        "https://idrid.grand-challenge.org",
        ByHand("A. Segmentation, B. Disease Grading, C. Localization", _ACCOUNT),
        "CC BY 4.0",
        None,
        (Count("**/*.jpg"), Count("**/*.tif"), Count("**/*.csv")),
        from_memory=("number of images", "licence", "file endings"),
        notes="2D only: outside the 3D lessons.",
    ),
    DataSet(
        "retinal_vessel_masks",
        "OCTA and DSA vessel masks: 2D binary masks, the shape prior of Local Discrimination",
        "10 each",
        "https://github.com/HuaiChen-1994/LDLearning",
        Direct(
            tuple(
                RemoteFile(f"{_LD_RAW}/{folder}/{n}_{kind}_Label.png", f"{folder}_{n}_{kind}_Label.png")
                for folder, kind, first in (("COTA_vessel_mask", "png", 0), ("DSA_mask", "jpg", 1))
                for n in range(first, first + 10)
            ),
            "the repository's file list",
        ),
        None,
        None,
        (Count("COTA_vessel_mask_*_Label.png", 10), Count("DSA_mask_*_Label.png", 10)),
        notes="2D only: outside the 3D lessons. No licence is stated: do not redistribute.",
    ),
)

# ---------------------------------------------------------------- open 3D sets for full-size runs
_VERSE_SERVER = "https://s3.bonescreen.de/public/VerSe-complete"


def _verse(year: int) -> DataSet:
    parts = ("training", "validation", "test")
    names = tuple(f"dataset-verse{year % 100}{part}.zip" for part in parts)
    return DataSet(
        f"verse{year}",
        f"VerSe {year}: spine CT, vertebra labels and centroids",
        "374 scans in both years together" + ("; 160 of them here" if year == 2019 else ""),
        "https://github.com/anjany/verse",
        Direct(tuple(RemoteFile(f"{_VERSE_SERVER}/{name}", name) for name in names), "the owners' README"),
        "CC BY-SA 4.0",
        "Sekuboyina et al., VerSe: a vertebrae labelling and segmentation benchmark for multi-detector CT images, "
        "Medical Image Analysis (2021); Löffler et al., Radiology: Artificial Intelligence (2020); Liebl, Schinz et "
        "al., arXiv 2103.06360 (2021)",
        (Count("**/rawdata/*/*_ct.nii.gz"), Count("**/derivatives/*/*_seg-vert_msk.nii.gz")),
        "pairs",
        pairs=Pairs(
            r"(?P<part>.+)/rawdata/(?P<subject>[^/]+)/(?P<case>.+)_ct\.nii\.gz",
            "{part}/derivatives/{subject}/{case}_seg-vert_msk.nii.gz",
            "CT",
            (
                "background",
                *(f"C{n}" for n in range(1, 8)),
                *(f"T{n}" for n in range(1, 13)),
                *(f"L{n}" for n in range(1, 7)),
                "sacrum (not labelled)",
                "coccyx (not labelled)",
                "T13",
            ),
            official_test=r"^dataset-verse\d\dtest/",
        ),
        notes="Centroids (.json, voxels of the image) are kept in the folder `other`.",
    )


def _totalsegmentator(name: str, record: int, archive: str, md5: str, title: str, cases: int, size: str) -> DataSet:
    return DataSet(
        name,
        f"TotalSegmentator CT v2, {title}: 117 structures",
        f"{cases:,}",
        f"https://zenodo.org/records/{record}",
        Direct(
            (RemoteFile(f"https://zenodo.org/records/{record}/files/{archive}", archive, md5=md5),),
            "kaiko-eva, TotalSegmentator2D",
        ),
        "CC BY 4.0",
        _TOTALSEGMENTATOR_CITATION,
        (Count("meta.csv", 1), Count("s*/ct.nii.gz", cases, cases == 1228), Count("s*/segmentations/*.nii.gz")),
        size=size,
        from_memory=("size",) + (() if cases == 1228 else ("number of cases",)),
        notes="One mask a structure; meta.csv holds the official split.",
    )


_OPEN_SETS = (
    _totalsegmentator(
        "totalsegmentator_small",
        10047263,
        "Totalsegmentator_dataset_small_v201.zip",
        "6b5524af4b15e6ba06ef2d700c0c73e0",
        "small subset",
        102,
        "3 GB",
    ),
    _totalsegmentator(
        "totalsegmentator",
        10047292,
        "Totalsegmentator_dataset_v201.zip",
        "fe250e5718e0a3b5df4c4ea9d58a62fe",
        "whole set",
        1228,
        "24 GB",
    ),
    DataSet(
        "amos22",
        "AMOS22: abdominal CT and MR, 15 organs",
        "300 CT and 60 MR labelled",
        "https://zenodo.org/records/7155725",
        Zenodo(7155725, ("amos22.zip",), "code of several projects that load it"),
        "CC BY 4.0",
        None,
        (Count("dataset.json", 1), Count("imagesTr/amos_*.nii.gz"), Count("labelsTr/amos_*.nii.gz")),
        "decathlon",
        "24 GB",
        from_memory=("size",),
        notes="CT has numbers below 500, MR from 500 on: keep them apart, grey values mean different things.",
    ),
    DataSet(
        "open_ms_cross_sectional",
        "Open MS data, University of Ljubljana: FLAIR with lesions drawn by consensus",
        "30",
        "https://github.com/muschellij2/open_ms_data",
        Direct(
            tuple(
                RemoteFile(
                    f"{_MS_RAW}/cross_sectional/coregistered_resampled/patient{n:02d}/{file}.nii.gz",
                    f"patient{n:02d}_{file}.nii.gz",
                )
                for n in range(1, 31)
                for file in ("FLAIR", "consensus_gt")
            ),
            "the repository's README and file list",
        ),
        "CC BY",
        "Lesjak et al., A novel public MR image dataset of multiple sclerosis patients with lesion segmentations based "
        "on multi-rater consensus, Neuroinformatics (2017)",
        (Count("patient*_FLAIR.nii.gz", 30), Count("patient*_consensus_gt.nii.gz", 30)),
        "pairs",
        pairs=Pairs(
            r"(?P<case>patient\d\d)_FLAIR\.nii\.gz", "{case}_consensus_gt.nii.gz", "FLAIR", ("background", "lesion")
        ),
        notes="The repository also has T1, contrast-enhanced T1, T2 and brain masks of these patients.",
    ),
    DataSet(
        "afids",
        "AFIDs (LHSCPD, SNSX): brain MRI, 32 landmarks each",
        "40 + 32",
        "https://openneuro.org/datasets/ds004471 and https://openneuro.org/datasets/ds004470",
        ByHand("both sets with the download button (no account)", _OPEN),
        "CC BY 4.0",
        None,
        (Count("**/*.fcsv"), Count("**/*_T1w.nii.gz")),
        from_memory=("names of the images",),
        notes="Index of all AFIDs data: github.com/afids/afids-data. Its HCP and OASIS parts need an agreement.",
    ),
    DataSet(
        "pddca",
        "PDDCA 1.4.1: head-and-neck CT, 9 organs, landmarks in 33 cases",
        "48",
        "https://www.imagenglab.com/newsite/pddca",
        Direct(
            tuple(
                RemoteFile(f"http://www.imagenglab.com/data/pddca/PDDCA-1.4.1_part{n}.zip", f"PDDCA-1.4.1_part{n}.zip")
                for n in (1, 2, 3)
            ),
            "code of another project",
        ),
        "CC BY 3.0 (source collection)",
        None,
        (Count("**/0522c*/img.nrrd", 48), Count("**/*.fcsv")),
        from_memory=("page", "name img.nrrd"),
        notes="NRRD files: convert them to NIfTI before use.",
    ),
    _verse(2019),
    _verse(2020),
    DataSet(
        "medmnist3d",
        "MedMNIST v2, 3D part: small crops for classification",
        "1,000 to 1,900 a set",
        "https://zenodo.org/records/10519652",
        Zenodo(
            10519652,
            tuple(f"{name}mnist3d.npz" for name in ("organ", "nodule", "adrenal", "fracture", "vessel", "synapse")),
            "the medmnist package and other code",
        ),
        "CC BY 4.0 (one set non-commercial)",
        None,
        (Count("*mnist3d.npz", 6),),
        from_memory=("licence",),
        notes="28 x 28 x 28 voxels.",
    ),
    DataSet(
        "sunnybrook",
        "Sunnybrook cardiac data: cine MRI, left ventricle",
        "45",
        "https://www.cardiacatlas.org",
        ByHand("the Sunnybrook images and contours", _OPEN),
        "CC0",
        None,
        (Count("**/*.dcm"), Count("**/*contour*.txt")),
        from_memory=("file names",),
        notes="DICOM and contour text. Open stand-in for ACDC.",
    ),
)

DATA_SETS: tuple[DataSet, ...] = (*_DECATHLON, *_LESSON_SETS, *_PAPER_SETS, *_OPEN_SETS)


# ---------------------------------------------------------------- the table for readers
_README_HEAD = """# Data for lessons and full-size runs

Nothing here is needed for a first run: lessons draw synthetic patients and use the brain template of nilearn. For real
scans, run the script of a set from the top folder of the project, for example

```
.venv/bin/python data_scripts/msd_hippocampus.py
```

It downloads (and goes on where an earlier run was cut), checks, unpacks, arranges and checks again; `load_cohort` then
finds the scans. Nothing gets its final name before it is whole. No script asks for an account or a password.

| option | what it does |
| --- | --- |
| `--to FOLDER` | data folder, default the user's cache. Name it in `MEDSSL_DATA` afterwards |
| `--from FOLDER` | use files you fetched, packed or unpacked; nothing is downloaded (¹) |
| `--keep-archive` | keep the downloaded archive beside the data |
| `--check` | only verify what is there |

¹ Your files stay where they are. Unpacked ones are hard-linked where the disk allows: both names share one content, so
do not edit them in place.

**Tier A**: one command, checksum recorded here. **Tier B**: no account; the SHA-256 seen at the first download is
written to `sha256.json` in the data folder and compared from then on. Where only the owner's page is known, the script
says what to fetch there. **Tier C**: account or signed terms; the script says where to register, then verifies and
arranges the files you put in a folder: `--from FOLDER`.

The addresses were read in the sources that each script prints; we have not tried them. A script says plainly when an
address has moved. † in the table: from memory, not re-read; compare with the owner's page. Licences are the owners' and
not this project's.

| script | what | cases | tier | size | licence | in the data folder |
| --- | --- | --- | --- | --- | --- | --- |
"""


def readme() -> str:
    """Text of `data_scripts/README.md`."""
    return _README_HEAD + "".join(_readme_row(data_set) for data_set in DATA_SETS)


def _readme_row(row: DataSet) -> str:
    def marked(value: str | None, *facts: str) -> str:
        doubt = any(memory.startswith(fact) for memory in row.from_memory for fact in facts)
        return (value or "not recorded") + (" †" if value and doubt else "")

    tier = row.tier + (", by hand" if row.tier == "B" and isinstance(row.access, ByHand) else "")
    loads = "" if row.arrangement == "as it is" else f"`{row.folder}/`, a cohort"
    cells = (
        f"[`{row.name}`]({row.name}.py)",
        row.title,
        marked(row.cases, "number"),
        tier,
        marked(row.size, "size"),
        marked(row.licence, "licence"),
        loads or f"`{row.folder}/`",
    )
    return f"| {' | '.join(cells)} |\n"


def script_text(data_set: DataSet) -> str:
    """Text of the script of a set: all scripts are alike, a test holds them against this."""
    return (
        f'"""{data_set.title}."""\n\n'
        "from _start import main\n\n"
        f'if __name__ == "__main__":\n    raise SystemExit(main("{data_set.name}"))\n'
    )


def write_scripts(folder: Path) -> None:
    """Write `README.md` and one script a set into `data_scripts/`, after the table has changed."""
    (folder / "README.md").write_text(readme(), encoding="utf-8")
    for data_set in DATA_SETS:
        (folder / f"{data_set.name}.py").write_text(script_text(data_set), encoding="utf-8")


if __name__ == "__main__":
    import sys

    write_scripts(Path(sys.argv[1]))
