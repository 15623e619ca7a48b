/* The Python module `mer_prep.ops._tvl1`: arrays come in as buffers, and the GIL is let go. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#include "tvl1.h"

struct path {
    const char *name;
    int (*flow)(const uint8_t *, const uint8_t *, int, int, const struct tvl1_settings *, float *);
    int (*median)(const float *, int, int, int, float *);
    int (*warp)(const float *, const float *, int, int, float *);
};

#define PATH_OF(name) {#name, tvl1_flow_##name, tvl1_median_##name, tvl1_warp_##name}

/* The fastest first. */
static const struct path paths[] = {
#if TVL1_HAS_AVX2
    PATH_OF(avx2),
#endif
    PATH_OF(portable),
};
#define PATHS ((int)(sizeof paths / sizeof *paths))

static int runs_here(const struct path *path) {
#if TVL1_HAS_AVX2
    if (strcmp(path->name, "avx2") == 0) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2");
    }
#endif
    (void)path;
    return 1;
}

static const struct path *find_path(const char *name) {
    for (int i = 0; i < PATHS; i++)
        if (strcmp(paths[i].name, name) == 0 && runs_here(&paths[i])) return &paths[i];
    PyErr_Format(PyExc_ValueError, "this processor has no path '%s'", name);
    return NULL;
}

/* Take a C-contiguous array of `dimensions` axes and one type; 0, or -1 with an error set. */
static int take(PyObject *object, const char *name, const char *type, int dimensions, int writable,
                Py_buffer *view) {
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, view, flags)) return -1;
    if (view->ndim == dimensions && view->format && strcmp(view->format, type) == 0) return 0;
    PyErr_Format(PyExc_ValueError, "'%s' must have %d axes and the format '%s'", name, dimensions,
                 type);
    PyBuffer_Release(view);
    return -1;
}

/* Whether the last two axes of a view are those of a picture, and it has pixels. */
static int same_size(const Py_buffer *view, int height, int width) {
    return view->shape[view->ndim - 2] == height && view->shape[view->ndim - 1] == width;
}

/* Height and width of a picture; 0, or -1 with an error set if it is too small or huge. */
static int size_of(const Py_buffer *view, int smallest, int *height, int *width) {
    Py_ssize_t h = view->shape[view->ndim - 2], w = view->shape[view->ndim - 1];
    if (h < smallest || w < smallest || h > 32000 || w > 32000) {
        PyErr_Format(PyExc_ValueError, "a picture must have %d to 32000 rows and columns",
                     smallest);
        return -1;
    }
    *height = (int)h;
    *width = (int)w;
    return 0;
}

static PyObject *finish(int status) {
    if (status == 0) Py_RETURN_NONE;
    return PyErr_NoMemory();
}

static PyObject *bad_sizes(void) {
    PyErr_SetString(PyExc_ValueError, "the arrays do not have matching sizes");
    return NULL;
}

static PyObject *flow(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *objects[3];
    struct tvl1_settings settings;
    const char *name;
    if (!PyArg_ParseTuple(arguments, "OOOffffdiiiiis", &objects[0], &objects[1], &objects[2],
                          &settings.tau, &settings.lambda, &settings.theta, &settings.epsilon,
                          &settings.scale_step, &settings.scales, &settings.warps,
                          &settings.inner, &settings.outer, &settings.median, &name))
        return NULL;
    const struct path *path = find_path(name);
    if (!path) return NULL;
    if (!(settings.scale_step > 0 && settings.scale_step < 1)) {
        PyErr_SetString(PyExc_ValueError, "'scale_step' must lie between 0 and 1");
        return NULL;
    }
    if (settings.median != 1 && settings.median != 3 && settings.median != 5) {
        PyErr_SetString(PyExc_ValueError, "'median' must be 1, 3 or 5");
        return NULL;
    }
    Py_buffer first, second, out;
    PyObject *result = NULL;
    int height, width, status;
    if (take(objects[0], "first", "B", 2, 0, &first)) return NULL;
    if (take(objects[1], "second", "B", 2, 0, &second)) goto release_first;
    if (take(objects[2], "out", "f", 3, 1, &out)) goto release_second;
    if (size_of(&first, TVL1_SMALLEST, &height, &width)) goto release_out;
    if (!same_size(&second, height, width) || !same_size(&out, height, width) ||
        out.shape[0] != 2) {
        bad_sizes();
        goto release_out;
    }
    Py_BEGIN_ALLOW_THREADS
    status = path->flow(first.buf, second.buf, height, width, &settings, out.buf);
    Py_END_ALLOW_THREADS
    result = finish(status);
release_out:
    PyBuffer_Release(&out);
release_second:
    PyBuffer_Release(&second);
release_first:
    PyBuffer_Release(&first);
    return result;
}

static PyObject *median(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *objects[2], *result = NULL;
    Py_buffer image, out;
    int side, height, width, status;
    const char *name;
    if (!PyArg_ParseTuple(arguments, "OOis", &objects[0], &objects[1], &side, &name)) return NULL;
    const struct path *path = find_path(name);
    if (!path) return NULL;
    if (side != 3 && side != 5) {
        PyErr_SetString(PyExc_ValueError, "'side' must be 3 or 5");
        return NULL;
    }
    if (take(objects[0], "image", "f", 2, 0, &image)) return NULL;
    if (take(objects[1], "out", "f", 2, 1, &out)) goto release_image;
    if (size_of(&image, 1, &height, &width)) goto release_out;
    if (!same_size(&out, height, width)) {
        bad_sizes();
        goto release_out;
    }
    Py_BEGIN_ALLOW_THREADS
    status = path->median(image.buf, height, width, side, out.buf);
    Py_END_ALLOW_THREADS
    result = finish(status);
release_out:
    PyBuffer_Release(&out);
release_image:
    PyBuffer_Release(&image);
    return result;
}

static PyObject *warp(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *objects[3], *result = NULL;
    Py_buffer image, field, out;
    int height, width, status;
    const char *name;
    if (!PyArg_ParseTuple(arguments, "OOOs", &objects[0], &objects[1], &objects[2], &name))
        return NULL;
    const struct path *path = find_path(name);
    if (!path) return NULL;
    if (take(objects[0], "image", "f", 2, 0, &image)) return NULL;
    if (take(objects[1], "flow", "f", 3, 0, &field)) goto release_image;
    if (take(objects[2], "out", "f", 2, 1, &out)) goto release_field;
    if (size_of(&image, 1, &height, &width)) goto release_out;
    if (!same_size(&field, height, width) || field.shape[0] != 2 ||
        !same_size(&out, height, width)) {
        bad_sizes();
        goto release_out;
    }
    Py_BEGIN_ALLOW_THREADS
    status = path->warp(image.buf, field.buf, height, width, out.buf);
    Py_END_ALLOW_THREADS
    result = finish(status);
release_out:
    PyBuffer_Release(&out);
release_field:
    PyBuffer_Release(&field);
release_image:
    PyBuffer_Release(&image);
    return result;
}

static PyObject *available_paths(PyObject *module, PyObject *ignored) {
    (void)module;
    (void)ignored;
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < PATHS; i++) {
        if (!runs_here(&paths[i])) continue;
        PyObject *name = PyUnicode_FromString(paths[i].name);
        if (!name || PyList_Append(list, name)) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

static PyMethodDef methods[] = {
    {"flow", flow, METH_VARARGS,
     "flow(first, second, out, tau, lambda, theta, epsilon, scale_step, scales, warps, inner, "
     "outer, median, path)\n\nWrite the flow of one pair into out, (2, H, W) float32."},
    {"median", median, METH_VARARGS,
     "median(image, out, side, path)\n\nFilter a float32 picture with a median."},
    {"warp", warp, METH_VARARGS,
     "warp(image, flow, out, path)\n\nSample a float32 picture at x + u, y + v, bicubically."},
    {"paths", available_paths, METH_NOARGS,
     "paths()\n\nReturn the names of the paths this processor can run, the fastest first."},
    {NULL, NULL, 0, NULL},
};

static int fill_module(PyObject *module) {
    return PyModule_AddIntConstant(module, "VERSION", TVL1_VERSION);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, fill_module},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_tvl1",
    .m_doc = "TV-L1 optical flow on the CPU; use mer_prep.ops.tvl1.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__tvl1(void) { return PyModuleDef_Init(&definition); }
