import errno
import io
import json
import math
import os
import struct
import zlib
from pathlib import Path

import MaterialX as mx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import trimesh
from MaterialX import PyMaterialXGenGlsl, PyMaterialXGenShader
from PIL import Image
from pxr import Usd, UsdGeom, UsdShade, UsdValidation
from torch import Tensor

from hubmodels.neuropbr.export import (
    CHANNELS,
    ao_from_height,
    height_from_normal,
    load_material,
    material_files,
    save_material,
)

HEIGHT, WIDTH = 48, 64
HALF_A_LEVEL = 0.5 / 255 + 1e-6
CREDIT = 'Ünï "q" \\ <b> & co, CC0'
CONSTANTS = (0.1, 0.3, 0.5, 0.7, 0.9)


def waves(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """A height in widths that tiles, (1, 1, H, W), and its normals, both in closed form; nothing in it is symmetric."""
    a, k, m = 0.01, 2 * math.pi * 2, 2 * math.pi * 3 * columns / rows
    down, right = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    x, y = right / columns, -down / columns  # y up
    height = a * torch.sin(k * x + 0.3) + 0.5 * a * torch.sin(m * y - k * x)
    dx = a * k * torch.cos(k * x + 0.3) - 0.5 * a * k * torch.cos(m * y - k * x)
    dy = 0.5 * a * m * torch.cos(m * y - k * x)
    return height[None, None], F.normalize(torch.stack([-dx, -dy, torch.ones_like(dx)])[None], dim=1)


def material(rows: int = HEIGHT, columns: int = WIDTH) -> dict[str, Tensor]:
    """Noise on waves; the corners of the albedo are red and green above, blue and white below."""
    noise = torch.Generator().manual_seed(3)
    height, normal = waves(rows, columns)
    albedo = 0.2 + 0.6 * torch.rand(1, 3, rows, columns, generator=noise)
    corners = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]])
    for corner, (y, x) in zip(corners, [(0, 0), (0, -1), (-1, -1), (-1, 0)], strict=True):
        albedo[0, :, y, x] = corner
    roughness, metallic, ao = (torch.rand(1, 1, rows, columns, generator=noise) for _ in range(3))
    return {
        "albedo": albedo,
        "roughness": roughness,
        "metallic": metallic,
        "normal": normal,
        "height": height,
        "ao": ao,
    }


@pytest.fixture(scope="module", params=["gl", "dx"])
def saved(request, tmp_path_factory) -> tuple[str, Path]:
    """The same material under either convention: its name, and the folder."""
    folder = tmp_path_factory.mktemp("out") / "material"
    save_material(material(), folder, request.param, physical_size=0.5, credit=CREDIT)
    return request.param, folder


def levels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


# --- relief ---


@pytest.mark.parametrize("size", [(64, 64), (48, 64), (64, 48)])
def test_waves_come_back_from_their_normals(size):
    height, normal = waves(*size)
    assert torch.allclose(height_from_normal(normal), height - height.mean(), atol=1e-6)


def test_a_slope_over_the_whole_is_kept_only_if_the_surface_does_not_tile():
    x = (torch.arange(64) + 0.5) / 64
    y = -(torch.arange(32)[:, None] + 0.5) / 64
    ramp = (0.3 * x - 0.2 * y)[None, None]
    normal = F.normalize(torch.tensor([-0.3, 0.2, 1.0]), dim=0).view(1, 3, 1, 1).expand(1, 3, 32, 64)
    assert torch.allclose(height_from_normal(normal, tile=False), ramp - ramp.mean(), atol=3e-3)  # it is 0.4 high
    assert height_from_normal(normal).abs().max() < 1e-6


def test_a_surface_that_does_not_tile_comes_back():
    y, x = torch.meshgrid((torch.arange(64) + 0.5) / 64, (torch.arange(64) + 0.5) / 64, indexing="ij")
    height = 0.05 * torch.cos(math.pi * x) * torch.cos(3 * math.pi * y)  # level at the edges, and not periodic
    right = -0.05 * math.pi * torch.sin(math.pi * x) * torch.cos(3 * math.pi * y)
    down = -0.05 * 3 * math.pi * torch.cos(math.pi * x) * torch.sin(3 * math.pi * y)
    normal = F.normalize(torch.stack([-right, down, torch.ones_like(x)])[None], dim=1)
    assert torch.allclose(height_from_normal(normal, tile=False)[0, 0], height, atol=1e-6)
    assert (height_from_normal(normal)[0, 0] - height).abs().max() > 0.01


def test_a_plane_is_not_occluded():
    assert torch.equal(ao_from_height(torch.full((2, 1, 32, 48), 0.7)), torch.ones(2, 1, 32, 48))


@pytest.mark.parametrize("depth", [0.01, 0.03, 0.1])
def test_occlusion_in_a_groove_is_that_of_its_closed_form(depth):
    height = torch.zeros(1, 1, 64, 512)
    height[..., 246:267] = -depth  # 21 pixels; the next higher one is 11 from the middle
    expected = 1 / math.sqrt(1 + (depth * 512 / 11) ** 2)
    assert ao_from_height(height)[0, 0, 32, 256] == pytest.approx(expected, abs=0.05)


def test_occlusion_tiles_or_does_not():
    height, _ = waves(48, 64)
    height = height * 10
    moved = ao_from_height(height.roll((17, 29), (2, 3)))
    assert torch.allclose(moved, ao_from_height(height).roll((17, 29), (2, 3)), atol=1e-6)
    step = torch.zeros(1, 1, 64, 64)
    step[..., 32:] = 0.1
    assert ao_from_height(step)[0, 0, 32, 0] < 0.9
    assert ao_from_height(step, tile=False)[0, 0, 32, 0] == 1


# --- pictures ---


def test_maps_come_back_within_quantisation(saved):
    _, folder = saved
    maps, loaded = material(), load_material(folder)
    assert set(loaded) == set(CHANNELS)
    for name in ("albedo", "roughness", "metallic", "ao"):
        assert (loaded[name] - maps[name]).abs().max() <= HALF_A_LEVEL, name
    assert (loaded["normal"] - maps["normal"]).abs().max() < 0.008  # 2 / 255, for lengths are made 1 again
    assert torch.allclose(loaded["normal"].norm(dim=1), torch.ones(1, HEIGHT, WIDTH))
    reach = float(maps["height"].abs().max())
    assert (loaded["height"] - maps["height"]).abs().max() <= 1.01 * reach / 65535


def test_files_are_those_of_the_convention(saved):
    normal, folder = saved
    other = {"gl": "dx", "dx": "gl"}[normal]
    names = {path.name for path in folder.iterdir()}
    assert f"normal_{normal}.png" in names and f"normal_{other}.png" not in names
    assert set(json.loads((folder / "material.json").read_text())["files"]) == names


def test_green_is_up_in_opengl_and_down_in_directx(saved):
    normal, folder = saved
    expected = material()["normal"][0].permute(1, 2, 0).numpy() * [1, {"gl": 1, "dx": -1}[normal], 1]
    got = levels(folder / f"normal_{normal}.png") / 127.5 - 1
    assert np.abs(got - expected).max() <= 1.01 / 255


@pytest.mark.parametrize("constant", CONSTANTS)
def test_constants_are_written_as_they_are(constant):
    maps = {name: torch.full((1, CHANNELS[name], 4, 4), constant) for name in ("albedo", "roughness", "metallic", "ao")}
    maps["normal"] = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    files = material_files(maps)
    for name in ("albedo.png", "roughness.png", "metallic.png", "ao.png", "orm.png"):
        got = np.asarray(Image.open(io.BytesIO(files[name])))
        assert np.abs(got / 255 - constant).max() <= HALF_A_LEVEL, name
        assert got.ndim == (3 if name in ("albedo.png", "orm.png") else 2)


def test_metres_can_be_recovered_from_height(saved):
    _, folder = saved
    told = json.loads((folder / "material.json").read_text())["maps"]["height"]
    picture = levels(folder / "height.png")
    assert picture.dtype == np.uint16
    metres = told["offset_m"] + told["scale_m"] * (picture / 65535)
    expected = material()["height"][0, 0].double().numpy() * 0.5
    assert np.abs(metres - expected).max() < 0.51 * told["scale_m"] / 65535
    assert np.abs(metres - expected).max() < 1e-6  # a micrometre; the relief is 13 mm deep


def test_a_flat_height_is_mid_grey():
    maps = material()
    files = material_files(maps | {"height": torch.zeros(1, 1, HEIGHT, WIDTH)})
    assert (np.asarray(Image.open(io.BytesIO(files["height.png"]))) == 32768).all()
    assert json.loads(files["material.json"])["maps"]["height"]["scale"] == 0


def test_orm_is_occlusion_roughness_metallic(saved):
    _, folder = saved
    single = [levels(folder / f"{name}.png") for name in ("ao", "roughness", "metallic")]
    assert np.array_equal(levels(folder / "orm.png"), np.stack(single, -1))


def test_height_and_occlusion_are_derived_where_they_lack():
    maps = material()
    height = maps.pop("height")
    maps.pop("ao")
    files = material_files(maps)
    told = json.loads(files["material.json"])
    assert told["derived"] == ["height", "ao"]
    got = told["maps"]["height"]["offset"] + told["maps"]["height"]["scale"] * (
        np.asarray(Image.open(io.BytesIO(files["height.png"]))) / 65535
    )
    assert np.abs(got - (height - height.mean())[0, 0].numpy()).max() < 1e-5
    ao = np.asarray(Image.open(io.BytesIO(files["ao.png"]))) / 255
    assert np.abs(ao - ao_from_height(height)[0, 0].numpy()).max() < 0.01


# --- glTF, opened by trimesh, and by hand where it drops what is asked about ---


def glb_content(content: bytes) -> tuple[dict, dict[str, np.ndarray], list[bytes]]:
    """JSON, attributes by name, and pictures of a GLB of one mesh."""
    magic, version, total, size, kind = struct.unpack("<4sIII4s", content[:20])
    assert (magic, version, total, kind) == (b"glTF", 2, len(content), b"JSON")
    scene, binary = json.loads(content[20 : 20 + size]), content[28 + size :]

    def view(number: int) -> bytes:
        one = scene["bufferViews"][number]
        return binary[one["byteOffset"] : one["byteOffset"] + one["byteLength"]]

    primitive = scene["meshes"][0]["primitives"][0]
    arrays = {}
    for name, number in [*primitive["attributes"].items(), ("indices", primitive["indices"])]:
        accessor = scene["accessors"][number]
        kind = {5123: np.uint16, 5126: np.float32}[accessor["componentType"]]
        across = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        arrays[name] = np.frombuffer(view(accessor["bufferView"]), kind).reshape(accessor["count"], across)
    return scene, arrays, [view(image["bufferView"]) for image in scene["images"]]


def glb_mesh(content: bytes) -> trimesh.Trimesh:
    loaded = trimesh.load(io.BytesIO(content), file_type="glb", process=False)
    return next(iter(loaded.geometry.values()))


def test_trimesh_reads_the_material_and_its_corners_are_where_they_belong(saved):
    _, folder = saved
    mesh = glb_mesh((folder / "material.glb").read_bytes())
    assert np.allclose(mesh.extents, [0.5, 0.5 * HEIGHT / WIDTH, 0])
    pbr = mesh.visual.material
    assert np.array_equal(np.asarray(pbr.baseColorTexture.convert("RGB")), levels(folder / "albedo.png"))
    assert np.array_equal(np.asarray(pbr.metallicRoughnessTexture.convert("RGB")), levels(folder / "orm.png"))
    assert np.array_equal(np.asarray(pbr.occlusionTexture.convert("RGB")), levels(folder / "orm.png"))
    seen = dict(
        zip(map(tuple, np.sign(mesh.vertices[:, :2])), mesh.visual.to_color().vertex_colors[:, :3], strict=True)
    )
    red, green, blue, white = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]
    for corner, color in {(-1, 1): red, (1, 1): green, (-1, -1): blue, (1, -1): white}.items():
        assert seen[corner].tolist() == color, corner


def test_the_plane_looks_like_the_albedo_from_the_front(saved):
    """Pixel by pixel: where a ray along -z meets the plane, the texel of its coordinates."""
    _, folder = saved
    _, mesh, (albedo, _, _) = glb_content((folder / "material.glb").read_bytes())
    texture = np.asarray(Image.open(io.BytesIO(albedo)))
    y, x = np.meshgrid(range(HEIGHT), range(WIDTH), indexing="ij")
    points = np.stack([((x + 0.5) / WIDTH - 0.5) * 0.5, (0.5 - (y + 0.5) / HEIGHT) * 0.5 * HEIGHT / WIDTH, 0 * x], -1)
    points = points.reshape(-1, 3)
    seen = np.zeros((len(points), 3), np.uint8)
    hit = np.zeros(len(points), bool)
    for corners in mesh["indices"].reshape(-1, 3):
        triangle = np.tile(mesh["POSITION"][corners], (len(points), 1, 1))
        weights = trimesh.triangles.points_to_barycentric(triangle, points)
        inside = (weights > -1e-6).all(1)
        u, v = (weights[inside] @ mesh["TEXCOORD_0"][corners]).T  # v down, as glTF has it
        seen[inside] = texture[(v * HEIGHT).astype(int), (u * WIDTH).astype(int)]
        hit |= inside
    assert hit.all()
    assert np.array_equal(seen.reshape(texture.shape), levels(folder / "albedo.png"))


def test_gltf_normals_are_opengl_whatever_the_file(saved):
    _, folder = saved
    _, _, (_, _, normal) = glb_content((folder / "material.glb").read_bytes())
    got = np.asarray(Image.open(io.BytesIO(normal))) / 127.5 - 1
    assert np.abs(got - material()["normal"][0].permute(1, 2, 0).numpy()).max() <= 1.01 / 255


@pytest.mark.parametrize("shape", ["plane", "sphere"])
def test_tangents_follow_the_texture_and_faces_look_outward(shape):
    content = material_files(material(), shape=shape)["material.glb"]
    _, mesh, _ = glb_content(content)
    position, normal, tangent, uv = (mesh[name] for name in ("POSITION", "NORMAL", "TANGENT", "TEXCOORD_0"))
    corners = mesh["indices"].reshape(-1, 3)
    one, two = (position[corners[:, i]] - position[corners[:, 0]] for i in (1, 2))
    face = np.cross(one, two)
    assert (np.linalg.norm(face, axis=1) > 1e-7).all(), "a triangle without area"
    assert (np.einsum("ij,ij->i", face, normal[corners].mean(1)) > 0).all(), "a triangle seen from behind"
    assert np.allclose(np.linalg.norm(tangent[:, :3], axis=1), 1, atol=1e-6)
    assert np.allclose(np.einsum("ij,ij->i", tangent[:, :3], normal), 0, atol=1e-6)
    # positions are linear in (u, v) on a triangle: solve for where u and v grow
    (u1, v1), (u2, v2) = ((uv[corners[:, i]] - uv[corners[:, 0]]).T for i in (1, 2))
    area = (u1 * v2 - u2 * v1)[:, None]
    along_u = (one * v2[:, None] - two * v1[:, None]) / area
    along_v = (two * u1[:, None] - one * u2[:, None]) / area
    bitangent = np.cross(normal, tangent[:, :3]) * tangent[:, 3:]
    for vertices in corners.T:
        assert (np.einsum("ij,ij->i", along_u, tangent[vertices, :3]) > 0).all()
        assert (np.einsum("ij,ij->i", along_v, bitangent[vertices]) < 1e-6).all(), "green must be against v"


def test_the_sphere_is_closed_and_carries_the_texture_at_its_size():
    content = material_files(material(), shape="sphere", physical_size=0.5)["material.glb"]
    mesh = glb_mesh(content)
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    assert mesh.is_watertight and mesh.volume > 0
    _, arrays, _ = glb_content(content)
    repeats = arrays["TEXCOORD_0"][:, 0].max()
    assert repeats == round(repeats) == 2  # whole textures around: no seam
    assert np.pi * mesh.extents[0] == pytest.approx(0.5 * repeats, rel=0.01)


def test_credit_and_emptiness_of_it_in_gltf():
    with_credit, _, _ = glb_content(material_files(material(), credit=CREDIT)["material.glb"])
    without, _, _ = glb_content(material_files(material())["material.glb"])
    assert with_credit["asset"]["copyright"] == CREDIT and "copyright" not in without["asset"]


# --- MaterialX ---


@pytest.fixture(scope="module")
def materialx_library() -> mx.Document:
    library = mx.createDocument()
    mx.loadLibraries(mx.getDefaultDataLibraryFolders(), mx.getDefaultDataSearchPath(), library)
    return library


def materialx_document(path: Path, library: mx.Document) -> mx.Document:
    document = mx.createDocument()
    mx.readFromXmlFile(document, str(path))
    document.setDataLibrary(library)
    return document


def test_materialx_validates(saved, materialx_library):
    _, folder = saved
    document = materialx_document(folder / "material.mtlx", materialx_library)
    assert document.validate() == (True, "")
    assert document.getAttribute("doc") == CREDIT
    surface = document.getNode("SR_material")
    for name in ("base_color", "specular_roughness", "metalness", "normal"):
        assert surface.getInput(name).getConnectedOutput() is not None, name
    document.getNode("SR_material").getInput("metalness").setType("color3")
    assert not document.validate()[0], "the check would let anything pass"


def test_materialx_reads_files_beside_it_and_only_albedo_is_srgb(saved, materialx_library):
    normal, folder = saved
    document = materialx_document(folder / "material.mtlx", materialx_library)
    graph = document.getNodeGraph("NG_material")
    files = {node.getInput("file").getValueString(): node for node in graph.getNodes("image")}
    assert set(files) == {"albedo.png", "roughness.png", "metallic.png", f"normal_{normal}.png"}
    for name, node in files.items():
        assert (folder / name).exists()
        assert node.getInput("file").getColorSpace() == ("srgb_texture" if name == "albedo.png" else "")
        assert (node.getType() == "color3") == (name == "albedo.png")


def test_materialx_becomes_a_shader_that_decodes_albedo_once(saved, materialx_library):
    _, folder = saved
    document = materialx_document(folder / "material.mtlx", materialx_library)
    generator = PyMaterialXGenGlsl.GlslShaderGenerator.create()
    colors = PyMaterialXGenShader.DefaultColorManagementSystem.create(generator.getTarget())
    colors.loadLibrary(materialx_library)
    generator.setColorManagementSystem(colors)
    context = PyMaterialXGenShader.GenContext(generator)
    context.registerSourceCodeSearchPath(mx.getDefaultDataSearchPath())
    (element,) = PyMaterialXGenShader.findRenderableElements(document)
    code = generator.generate("material", element, context).getSourceCode(PyMaterialXGenShader.PIXEL_STAGE)
    decoded = [
        line.strip() for line in code.splitlines() if "srgb_texture_to_lin_rec709" in line and "void" not in line
    ]
    assert len(decoded) == 1 and "(albedo" in decoded[0]


def test_materialx_turns_the_normal_map_to_opengl(saved, materialx_library):
    """Walk the nodes from the normalmap to its file, and do what they say to the pixels."""
    normal, folder = saved
    document = materialx_document(folder / "material.mtlx", materialx_library)
    graph = document.getNodeGraph("NG_material")
    node = graph.getNode("normal").getInput("in").getConnectedNode()
    todo = []
    while node.getCategory() != "image":
        todo.append((node.getCategory(), np.array(list(node.getInput("in2").getValue().asTuple()))))
        node = node.getInput("in1").getConnectedNode()
    value = levels(folder / node.getInput("file").getValueString()) / 255
    for category, constant in reversed(todo):
        value = {"multiply": np.multiply, "add": np.add}[category](value, constant)
    assert np.abs(value * 2 - 1 - material()["normal"][0].permute(1, 2, 0).numpy()).max() <= 1.01 / 255


# --- USD ---


def test_usd_passes_all_its_validators(saved):
    """Green turned over is the one thing that they hold against a DirectX map, and it must be."""
    normal, folder = saved
    stage = Usd.Stage.Open(str(folder / "material.usda"))
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 10
    errors = [error.GetName() for error in UsdValidation.ValidationContext(validators).Validate(stage)]
    assert errors == {"gl": [], "dx": ["NonCompliantScaleValues"]}[normal]
    assert stage.GetRootLayer().customLayerData == {"credit": CREDIT}
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1


def usd_textures(folder: Path) -> tuple[Usd.Stage, dict[str, UsdShade.Shader]]:
    """The stage, and the texture that each input of the surface bound to the plane reads."""
    stage = Usd.Stage.Open(str(folder / "material.usda"))
    plane = stage.GetPrimAtPath("/Material/Plane")
    bound, _ = UsdShade.MaterialBindingAPI(plane).ComputeBoundMaterial()
    surface = bound.ComputeSurfaceSource()[0]
    assert surface.GetIdAttr().Get() == "UsdPreviewSurface"
    sources = {one.GetBaseName(): one.GetConnectedSources()[0][0].source for one in surface.GetInputs()}
    return stage, {name: UsdShade.Shader(source) for name, source in sources.items()}


def test_usd_reads_each_map_in_its_colour_space(saved):
    normal, folder = saved
    _, textures = usd_textures(folder)
    expected = {
        "diffuseColor": ("albedo.png", "sRGB"),
        "roughness": ("roughness.png", "raw"),
        "metallic": ("metallic.png", "raw"),
        "occlusion": ("ao.png", "raw"),
        "normal": (f"normal_{normal}.png", "raw"),
    }
    for name, (file, space) in expected.items():
        texture = textures[name]
        assert texture.GetInput("file").Get().resolvedPath == str(folder / file)
        assert texture.GetInput("sourceColorSpace").Get() == space
        reader = UsdShade.Shader(texture.GetInput("st").GetConnectedSources()[0][0].source)
        assert reader.GetIdAttr().Get() == "UsdPrimvarReader_float2" and reader.GetInput("varname").Get() == "st"
    assert set(textures) == set(expected)


def test_usd_scale_and_bias_give_opengl_normals(saved):
    normal, folder = saved
    _, textures = usd_textures(folder)
    scale, bias = (np.array(textures["normal"].GetInput(name).Get())[:3] for name in ("scale", "bias"))
    got = levels(folder / f"normal_{normal}.png") / 255 * scale + bias
    assert np.abs(got - material()["normal"][0].permute(1, 2, 0).numpy()).max() <= 1.01 / 255


def test_usd_shows_the_texture_upright(saved):
    _, folder = saved
    stage, _ = usd_textures(folder)
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/Material/Plane"))
    points = np.array(mesh.GetPointsAttr().Get())
    st = np.array(UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st").Get())
    assert np.allclose(st * 2 - 1, np.sign(points[:, :2]))  # t = 1 is the top of a picture
    around = points[np.array(mesh.GetFaceVertexIndicesAttr().Get())]
    assert np.cross(around[1] - around[0], around[2] - around[0])[2] > 0
    assert np.ptp(points[:, 0]) == pytest.approx(0.5) and np.ptp(points[:, 1]) == pytest.approx(0.5 * HEIGHT / WIDTH)


# --- the folder ---


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_saving_again_replaces_ours_and_keeps_what_others_put_there(tmp_path):
    folder = tmp_path / "deep" / "material"
    first = save_material(material(), folder)
    assert sorted(first) == sorted(folder.iterdir())
    (folder / "note.txt").write_text("mine")
    maps = material()
    maps["roughness"] = maps["roughness"] * 0.5
    second = save_material(maps, folder, "dx")
    assert {path.name for path in folder.iterdir()} == {path.name for path in second} | {"note.txt"}
    assert not (folder / "normal_gl.png").exists() and (folder / "note.txt").read_text() == "mine"
    assert (load_material(folder)["roughness"] - maps["roughness"]).abs().max() <= HALF_A_LEVEL
    assert contents(folder) == material_files(maps, "dx") | {"note.txt": b"mine"}
    assert [path.name for path in folder.parent.iterdir()] == ["material"]


def test_an_empty_folder_is_taken_and_any_other_refused(tmp_path):
    empty, foreign, other = (tmp_path / name for name in ("empty", "foreign", "other"))
    empty.mkdir()
    assert save_material(material(8, 8), empty)
    for folder, name, text in ((foreign, "thesis.txt", "years"), (other, "material.json", '{"format": "else"}')):
        folder.mkdir()
        (folder / name).write_text(text)
        with pytest.raises(FileExistsError, match="is not a material that was saved here"):
            save_material(material(8, 8), folder)
        assert contents(folder) == {name: text.encode()}
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is not a material"):
        save_material(material(8, 8), tmp_path / "file")


@pytest.mark.parametrize("before", [False, True])
def test_a_full_disk_leaves_all_as_it_was(tmp_path, monkeypatch, before):
    folder = tmp_path / "material"
    if before:
        save_material(material(8, 8), folder)
    was = contents(folder) if before else None
    calls = []

    def full(_):
        calls.append(1)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"^cannot save .*material: No space left on device$"):
        save_material(material(16, 16), folder)
    assert (contents(folder) if before else None) == was
    assert [path.name for path in tmp_path.iterdir()] == (["material"] if before else [])


def test_a_folder_in_the_way_of_a_file_is_refused_before_anything_moves(tmp_path):
    folder = tmp_path / "material"
    save_material(material(8, 8), folder)
    was = (folder / "albedo.png").read_bytes()
    (folder / "orm.png").unlink()
    (folder / "orm.png").mkdir()
    with pytest.raises(OSError, match="orm.png in it is a folder"):
        save_material(material(16, 16), folder)
    assert (folder / "albedo.png").read_bytes() == was


# --- what is refused ---


def replaced(name: str, value: float, at: tuple = (0, 0, 1, 1)) -> dict[str, Tensor]:
    maps = {key: one.clone() for key, one in material().items()}
    maps[name][at] = value
    return maps


BAD = {
    "lacks roughness": {k: v for k, v in material().items() if k != "roughness"},
    "unknown map 'gloss'": material() | {"gloss": torch.zeros(1, 1, HEIGHT, WIDTH)},
    r"metallic must be \(1, 1, 48, 64\).* got \(1, 1, 48, 48\)": material() | {"metallic": torch.zeros(1, 1, 48, 48)},
    r"albedo must be \(1, 3, 48, 64\)": material() | {"albedo": torch.zeros(2, 3, HEIGHT, WIDTH)},
    "albedo must have 1 to 4096 pixels a side, got 4097 x 1": {
        k: torch.zeros(1, c, 1, 4097) for k, c in CHANNELS.items()
    },
    "ao must be of floats, got torch.uint8": material() | {"ao": torch.zeros(1, 1, HEIGHT, WIDTH, dtype=torch.uint8)},
    "height holds 1 values that are not numbers": replaced("height", math.nan),
    "roughness holds 1 values that are not numbers": replaced("roughness", math.inf),
    r"roughness must lie in \[0, 1\], got .* to 1.200": replaced("roughness", 1.2),
    r"albedo must lie in \[0, 1\], got -0.500": replaced("albedo", -0.5),
    r"height must lie in \[-1, 1\] widths": replaced("height", 12.0),
    "normal must hold unit vectors": replaced("normal", 1.0),
    "normal must point out of the surface": replaced("normal", -1.0, (0, 2, slice(None), slice(None)))
    | {"normal": -material()["normal"]},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_maps_are_named_in_one_line_and_nothing_is_written(tmp_path, message):
    with pytest.raises(ValueError, match=message) as caught:
        save_material(BAD[message], tmp_path / "material")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        {"normal": "opengl"},
        {"shape": "cube"},
        {"physical_size": 0.0},
        {"physical_size": math.nan},
        {"credit": "two\nlines"},
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        material_files(material(8, 8), **arguments)


# --- folders that others made ---


def plain_folder(folder: Path) -> dict[str, np.ndarray]:
    """8-bit pictures of a material without a description, and their levels."""
    noise = np.random.default_rng(5)
    folder.mkdir()
    made = {
        "albedo": noise.integers(0, 256, (6, 8, 3), np.uint8),
        "roughness": noise.integers(0, 256, (6, 8), np.uint8),
        "metallic": noise.integers(0, 256, (6, 8), np.uint8),
        "normal": np.concatenate([noise.integers(64, 192, (6, 8, 2), np.uint8), np.full((6, 8, 1), 220, np.uint8)], 2),
    }
    for name, one in made.items():
        Image.fromarray(one).save(folder / f"{name}.png")
    return made


def test_a_plain_folder_is_read(tmp_path):
    made = plain_folder(tmp_path / "m")
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(tmp_path / "m" / "height.png")  # nothing says how high
    maps = load_material(tmp_path / "m")
    assert set(maps) == {"albedo", "roughness", "metallic", "normal"}
    for name in ("albedo", "roughness", "metallic"):
        expected = torch.from_numpy(made[name]).reshape(6, 8, -1).permute(2, 0, 1)[None] / 255
        assert torch.allclose(maps[name], expected, atol=1e-6)
    vectors = made["normal"] / 127.5 - 1
    expected = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    assert np.allclose(maps["normal"][0].permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_a_directx_map_is_turned(tmp_path):
    plain_folder(tmp_path / "m")
    gl = load_material(tmp_path / "m")["normal"]
    (tmp_path / "m" / "normal.png").rename(tmp_path / "m" / "normal_dx.png")
    assert torch.equal(load_material(tmp_path / "m")["normal"], gl * torch.tensor([1, -1, 1]).view(1, 3, 1, 1))


def rgba(picture: Image.Image) -> Image.Image:
    picture = picture.convert("RGBA")
    picture.putalpha(Image.fromarray(np.tile(np.uint8([0, 90, 255, 1]), (6, 2))))
    return picture


@pytest.mark.parametrize("change", [rgba, lambda p: p.quantize(256)], ids=["alpha", "palette"])
def test_alpha_is_dropped_and_palettes_are_looked_up(tmp_path, change):
    plain_folder(tmp_path / "m")
    path = tmp_path / "m" / "albedo.png"
    Image.open(path).quantize(48).convert("RGB").save(path)  # few colours, so that a palette holds them all
    plain = load_material(tmp_path / "m")["albedo"]
    changed = change(Image.open(path))
    changed.save(path, transparency=3) if changed.mode == "P" else changed.save(path)
    assert Image.open(path).mode in ("RGBA", "P")
    assert torch.equal(load_material(tmp_path / "m")["albedo"], plain)


GREYS = {
    "one bit": (Image.fromarray(np.eye(6, 8, dtype=np.uint8) * 255).convert("1"), {}, np.eye(6, 8)),
    "alpha": (
        Image.fromarray(np.stack([np.eye(6, 8) * 255, np.zeros((6, 8))], 2).astype(np.uint8), "LA"),
        {},
        np.eye(6, 8),
    ),
    "one level transparent": (
        Image.fromarray(np.eye(6, 8, dtype=np.uint8) * 200),
        {"transparency": 0},
        np.eye(6, 8) * 200 / 255,
    ),
    "16 bits": (
        Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000),
        {},
        np.arange(48).reshape(6, 8) / 65.535,
    ),
    "colour that is grey": (Image.new("RGB", (8, 6), (51, 51, 51)), {}, np.full((6, 8), 0.2)),
}


@pytest.mark.parametrize("kind", GREYS)
def test_all_kinds_of_grey_are_read(tmp_path, kind):
    plain_folder(tmp_path / "m")
    picture, options, expected = GREYS[kind]
    picture.save(tmp_path / "m" / "roughness.png", **options)
    got = load_material(tmp_path / "m")["roughness"]
    assert torch.allclose(got[0, 0], torch.from_numpy(expected).float(), atol=1e-6)


def test_grey_albedo_has_three_channels(tmp_path):
    plain_folder(tmp_path / "m")
    Image.fromarray(np.full((6, 8), 32896, np.uint16)).save(tmp_path / "m" / "albedo.png")
    assert torch.allclose(load_material(tmp_path / "m")["albedo"], torch.full((1, 3, 6, 8), 32896 / 65535))


def huge_png(width: int, height: int) -> bytes:
    """A few bytes that claim to be a large picture."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I4s", 9, b"IDAT")
    )


def cmyk() -> bytes:
    buffer = io.BytesIO()
    Image.new("CMYK", (8, 6)).save(buffer, "JPEG")
    return buffer.getvalue()


def truncated() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()[:90]


def drawn(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


DAMAGED = {
    r"no metallic.png": ("metallic", None),
    r"roughness.png is 9 x 6, albedo.png is 8 x 6": ("roughness", drawn(np.zeros((6, 9), np.uint8))),
    r"roughness.png: this map must be grey": ("roughness", drawn(np.tile(np.uint8([0, 90, 9]), (6, 8, 1)))),
    r"normal.png: a normal map has three channels": ("normal", drawn(np.full((6, 8), 128, np.uint8))),
    r"normal.png is not a normal map of a surface": ("normal", drawn(np.full((6, 8, 3), 20, np.uint8))),
    r"albedo.png: a map cannot be CMYK": ("albedo", cmyk()),
    r"albedo.png: .*(truncated|damaged)": ("albedo", truncated()),
    r"albedo.png is not a picture": ("albedo", b"not a picture"),
    r"albedo.png: .*up to 4096 pixels a side, got 10000 x 10000": ("albedo", huge_png(10_000, 10_000)),
    r"albedo.png: .*up to 4096 pixels a side, this has far more": ("albedo", huge_png(30_000, 30_000)),
}


@pytest.mark.parametrize("message", DAMAGED)
@pytest.mark.filterwarnings("error")
def test_damaged_folders_are_refused_by_name_and_left_alone(tmp_path, message):
    folder = tmp_path / "m"
    plain_folder(folder)
    name, content = DAMAGED[message]
    (folder / f"{name}.png").unlink() if content is None else (folder / f"{name}.png").write_bytes(content)
    was = contents(folder)
    with pytest.raises(ValueError, match=message) as caught:
        load_material(folder)
    assert "\n" not in str(caught.value)
    assert contents(folder) == was


def test_a_description_without_the_scale_of_height_is_refused(tmp_path):
    save_material(material(8, 8), tmp_path / "m")
    (tmp_path / "m" / "material.json").write_text("{}")
    with pytest.raises(ValueError, match="material.json does not say the scale"):
        load_material(tmp_path / "m")
    with pytest.raises(ValueError, match="is not a folder"):
        load_material(tmp_path / "nowhere")
